"""What a run prints when it begins and when it has ended."""

import json
import shlex
import subprocess
import sys

import pytest

from lm.training.results import next_commands
from tests.conftest import run, small


def test_the_next_commands_name_the_run_folder_and_what_a_checkpoint_does_not_hold(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scripts").mkdir()
    for script in ("train", "generate", "evaluate"):
        (tmp_path / "scripts" / f"{script}.py").touch()
    monkeypatch.setattr("sys.argv", ["scripts/train.py"])
    overrides = ["data=text", 'data.root="my/text"', "model.core.dropout=0.3", "'regularizer=[a,b]'", "ckpt=last"]
    commands = next_commands(tmp_path / "runs" / "one", overrides, tmp_path / "runs/one/checkpoints/best.ckpt")
    assert commands["generate"] == "python scripts/generate.py ckpt=runs/one"
    assert commands["evaluate"] == "python scripts/evaluate.py data.root=my/text ckpt=runs/one"
    resumed = shlex.split(commands["resume"])
    assert resumed == ["python", "scripts/train.py", "data=text", "data.root=my/text", *overrides[2:4], "ckpt=runs/one"]
    assert next_commands("runs/one", [], "runs/one/checkpoints/best_3.ckpt") == {
        "generate": "python scripts/generate.py ckpt=runs/one/checkpoints/best_3.ckpt",
        "evaluate": "python scripts/evaluate.py ckpt=runs/one/checkpoints/best_3.ckpt",
        "resume": "python scripts/train.py ckpt=runs/one",
    }
    for started_as in ("/usr/lib/ipykernel_launcher.py", ""):  # in a notebook, in Python's prompt
        monkeypatch.setattr("sys.argv", [started_as])
        assert next_commands(tmp_path / "runs" / "one", [], "x.ckpt")["resume"] == "lm-train ckpt=runs/one"


@pytest.mark.slow
def test_a_run_says_what_it_trains_and_prints_commands_that_work(text_folder, tmp_path):
    done = run("train", *small(text_folder, "hydra.run.dir=run", "trainer.max_epochs=1"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    [begun] = [line for line in done.stdout.splitlines() if line.startswith("run: ")]
    assert "vocabulary of 22 words, cpu (" in begun
    assert begun.endswith("in run")
    named = (line.partition(": ")[::2] for line in done.stdout.splitlines())
    commands = {name: shlex.split(command)[1:] for name, command in named if name in ("generate", "evaluate", "resume")}
    assert len(commands) == 3
    for name, extra in {"generate": "max_words=3", "evaluate": "split=valid", "resume": "trainer.max_epochs=2"}.items():
        command = [sys.executable, *commands[name], extra]
        again = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert again.returncode == 0, again.stderr
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["epochs"] == 2
