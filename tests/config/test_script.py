"""A script's `main`, as a console entry point calls it."""

import os
import signal
import subprocess
import sys

import pytest

from tests.conftest import CONF, ROOT

SCRIPTS = [path.stem for path in CONF.glob("*.yaml")]


@pytest.mark.parametrize("script", SCRIPTS)
def test_main_works_when_it_is_imported(script, tmp_path):
    entry_point = tmp_path / f"lm-{script}"
    code = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom scripts.{script} import main\nmain()\n"
    entry_point.write_text(code)
    done = subprocess.run([sys.executable, entry_point, "sed=1"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("sed is unknown: ") or done.stderr.startswith("sed=1 given, but sed is unknown: ")


def test_what_hydra_prints_into_a_closed_pipe_ends_the_script_without_a_word():
    reading, writing = os.pipe()
    os.close(reading)  # as `head` does
    command = [sys.executable, ROOT / "scripts" / "generate.py", "--cfg", "job"]  # --help takes seconds
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, "")


def test_importing_a_script_imports_nothing_slow():
    code = "import sys, scripts.train, scripts.score; print(*{'hydra', 'torch', 'lightning'} & sys.modules.keys())"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True) == "\n"


@pytest.mark.parametrize("arguments", [["generate", "max_words=1"], ["score", "text=w1 w2"]], ids=lambda each: each[0])
def test_generate_and_score_import_nothing_slow_but_torch(trained, arguments):
    script, *options = arguments
    code = f"""
import gc, sys
from scripts.{script} import main
main()
slow = {{"lightning", "torchmetrics", "matplotlib", "transformers", "tensorboard", "scipy", "sympy", "torch._dynamo",
        "requests", "pooch", "safetensors"}}
print(gc.isenabled(), *sorted(slow & sys.modules.keys()), file=sys.stderr)
"""
    command = [sys.executable, "-c", code, f"ckpt={trained('lstm')}", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr.splitlines()[1:]) == (0, ["True"]), done.stderr


@pytest.mark.parametrize("script", [path.stem for path in CONF.glob("*.yaml")])
def test_garbage_is_collected_once_a_script_has_imported_what_it_needs(script):
    source = (ROOT / "scripts" / f"{script}.py").read_text()
    assert source.count("    imported()\n") == 1
