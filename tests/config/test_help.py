"""What `--help` of each script says."""

import re
import shlex
import subprocess
import sys
from functools import cache

import pytest

from lm.config.command_line import hydra_arguments
from lm.config.overrides import check_command_line
from tests.conftest import CONF, HAS_SWEEP, ROOT, run

help_of = cache(lambda script: run(script, "--help").stdout)
SCRIPTS = [path.stem for path in CONF.glob("*.yaml")]


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_has_purpose_examples_and_every_key_with_its_comment(script):
    help_text = help_of(script)
    purpose, examples = help_text.split("\n\n")[:2]
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
        assert f"\n  {line}\n" in help_text


def test_help_has_the_groups_of_its_script_alone():
    train, evaluate, generate = map(help_of, ("train", "evaluate", "generate"))
    assert "  trainer [cpu]: cpu, ddp, gpu\n" in train
    assert "  evaluation/" not in train
    assert "  evaluation [full]: awd_lstm, full, pytorch_examples\n" in evaluate
    assert "  trainer" not in evaluate
    assert "Groups" not in generate


def test_help_imports_no_torch():
    command = [sys.executable, "-X", "importtime", ROOT / "scripts" / "train.py", "--help"]
    imported = subprocess.run(command, capture_output=True, text=True)
    assert imported.returncode == 0
    assert " torch" not in imported.stderr


def test_help_of_an_installed_script_names_its_command(tmp_path):
    entry_point = tmp_path / "lm-generate"
    entry_point.write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom scripts.generate import main\nmain()\n"
    )
    done = subprocess.run([sys.executable, entry_point, "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert "  lm-generate ckpt=best" in done.stdout
    assert "scripts/" not in done.stdout
