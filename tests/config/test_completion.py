"""What the shell's completion of a script's arguments offers."""

import pytest

from tests.conftest import run


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("optimizer.", ["optimizer.decay=", "optimizer.lr="]),
        ("model.core.hid", ["model.core.hidden_size="]),
        ("model=l", ["model=lstm"]),
    ],
)
def test_completion_offers_keys_and_options_but_not_the_keys_of_instantiate(monkeypatch, typed, offered):
    line = f"python scripts/train.py {typed}"
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    matches = run("train", "--shell-completion", "query=bash").stdout.split()
    assert set(offered) <= set(matches)
    assert all(match.startswith(typed) for match in matches)
    assert not any("_target_" in match or "_partial_" in match for match in matches)
