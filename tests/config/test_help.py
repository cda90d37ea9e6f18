"""What `--help` of each script says."""

import re
import shlex
import subprocess
import sys

import pytest
from hydra import initialize_config_dir

from lm.config.command_line import hydra_arguments
from lm.config.help import help_text
from lm.config.overrides import check_command_line
from tests.conftest import CONF, HAS_SWEEP, ROOT

SCRIPTS = [path.stem for path in CONF.glob("*.yaml")]


@pytest.fixture
def help_of(monkeypatch):
    """The help of a script, without a process of its own."""

    def text(script: str) -> str:
        monkeypatch.setattr(sys, "argv", [str(ROOT / "scripts" / f"{script}.py")])
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return help_text(script).replace("$$", "$")

    return text


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_has_purpose_examples_and_every_key_with_its_comment(script, help_of):
    printed = help_of(script)
    purpose, examples = printed.split("\n\n")[:2]
    assert re.fullmatch(r"[A-Z][^\n]+\.", purpose)
    assert len(re.findall(rf"^  python \S*scripts/{script}\.py .*", f"{examples}\n", re.MULTILINE)) >= 2
    for command in re.findall(rf"^  python \S*scripts/{script}\.py(.*)", examples, re.MULTILINE):
        arguments = shlex.split(command, comments=True)
        if HAS_SWEEP or not any("optuna" in each for each in arguments):
            check_command_line(script, hydra_arguments(arguments, ("text", "prompt")))
    own = (CONF / f"{script}.yaml").read_text()
    keys = [line for line in own.splitlines() if re.match(r"[a-z]\w*:", line) and not re.match("defaults|hydra", line)]
    assert keys
    for line in keys:
        assert f"\n  {line}\n" in printed


def test_help_has_the_groups_of_its_script_alone(help_of):
    train, evaluate, generate = map(help_of, ("train", "evaluate", "generate"))
    assert "  trainer [cpu]: cpu, ddp, gpu\n" in train
    assert "  evaluation/" not in train
    assert "  evaluation [full]: awd_lstm, full, pytorch_examples\n" in evaluate
    assert "  trainer" not in evaluate
    assert "Groups" not in generate


def test_hydra_prints_this_help_and_imports_no_torch(help_of):
    command = [sys.executable, "-X", "importtime", ROOT / "scripts" / "train.py", "--help"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.strip() == help_of("train").strip()
    assert " torch" not in done.stderr


def test_help_of_an_installed_script_names_its_command(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", [str(tmp_path / "lm-generate")])
    with initialize_config_dir(str(CONF), version_base="1.3"):
        shown = help_text("generate")
    assert "  lm-generate ckpt=best" in shown
    assert "scripts/" not in shown
