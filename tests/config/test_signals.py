"""Ctrl-C, SIGTERM and SIGHUP: what there is is written, one line says so, and the exit code is 128 + signal."""

import csv
import json
import os
import signal
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest

from lm import LanguageModel
from lm.config import signals
from lm.config.cli import one_line_errors
from lm.generation.incremental import IncrementalDecoder
from scripts.generate import generate
from scripts.train import train
from tests.conftest import ADAM, PROCESS_TIMEOUT, ROOT, composed, small, tiny_config, wait_for

STOPS = [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM"), (signal.SIGHUP, 129, "SIGHUP")]


@pytest.fixture(autouse=True)
def sighup_is_not_ignored():
    """By the processes that a test starts, even where nohup runs the tests."""
    previous = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, previous)


@pytest.mark.parametrize("options", [[], ["num_samples=2"], ["detokenize=true"]])
def test_ctrl_c_in_generate_keeps_the_text_so_far(trained, tmp_path, monkeypatch, capsys, options):
    stream, steps = LanguageModel.stream, count()

    def interrupted(*args, **kwargs):
        for words in stream(*args, **kwargs):
            if next(steps) == 5:
                raise KeyboardInterrupt
            yield words

    checkpoint = trained("lstm")
    capsys.readouterr()
    config = composed("generate", f"ckpt={checkpoint}", f"out={tmp_path}/text.txt", "seed=3", *options)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt, match="this is the text so far"):
        patched.setattr(LanguageModel, "stream", interrupted)
        generate(config)
    printed = capsys.readouterr().out
    config.max_words, config.out = 5, None
    expected = generate(config)
    assert (tmp_path / "text.txt").read_text() == "\n\n".join(expected) + "\n"
    assert printed == capsys.readouterr().out


@pytest.mark.parametrize("step", [0, 5])
def test_ctrl_c_during_a_beam_search_keeps_the_best_texts_so_far(trained, tmp_path, monkeypatch, capsys, step):
    decode, calls = IncrementalDecoder.decode, count()

    def interrupted(*args):
        if next(calls) == step:
            raise KeyboardInterrupt
        return decode(*args)

    options = ("num_beams=4", "num_samples=2", "length_penalty=1", "prompt=w1", f"out={tmp_path}/text.txt")
    config = composed("generate", f"ckpt={trained('lstm')}", *options)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt, match="this is the text so far"):
        patched.setattr(IncrementalDecoder, "decode", interrupted)
        generate(config)
    written = (tmp_path / "text.txt").read_text()
    if step == 0:
        assert written == "w1\n"
    else:
        config.max_words, config.out = step, None
        assert written == "\n\n".join(generate(config)) + "\n"


def test_whatever_ends_the_test_the_numbers_of_the_validation_are_written(text_folder, tmp_path, monkeypatch):
    def interrupted(*_):
        raise SystemExit(1)  # what Lightning makes of KeyboardInterrupt

    monkeypatch.setattr("lm.training.run.test_metrics", interrupted)
    with pytest.raises(SystemExit):
        train(tiny_config(text_folder, tmp_path, "trainer.max_epochs=1", *ADAM))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["val/ppl"] > 1
    assert "test/ppl" not in metrics


def test_a_stopped_script_exits_with_the_code_and_line_of_the_signal_whatever_the_signal_became(monkeypatch, capsys):
    monkeypatch.setattr(signals, "_received", signal.SIGTERM)
    for error in (KeyboardInterrupt("so far"), SystemExit(1), ImportError("half a module")):
        monkeypatch.setattr(signals, "_has_said", False)

        @one_line_errors
        def main(config, error=error):
            raise error

        with pytest.raises(SystemExit) as stopped:
            main(composed("benchmark"))
        assert stopped.value.code == 143
        assert capsys.readouterr().err.startswith("Stopped by SIGTERM")


def test_importing_the_package_changes_no_handlers():
    code = (
        "import signal, sys; numbers = signal.SIGINT, signal.SIGTERM, signal.SIGHUP; "
        "before = [*map(signal.getsignal, numbers)]; import lm, lm.config.signals, scripts.generate; "
        "print(before == [*map(signal.getsignal, numbers)] and sys.excepthook is sys.__excepthook__)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True) == "True\n"


# --- real processes


def start(script: str, *arguments: object, **options: object) -> subprocess.Popen:
    command = [sys.executable, ROOT / "scripts" / f"{script}.py", *map(str, arguments)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        **options,
    )


def generate_with_sitecustomize(folder: Path, signum: int, *arguments: str) -> subprocess.CompletedProcess:
    """Run generate.py in `folder`, whose sitecustomize.py Python imports first and which finds the signal in SIGNAL."""
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path, "SIGNAL": str(int(signum))}
    command = [sys.executable, ROOT / "scripts" / "generate.py", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "code", "name"), STOPS)
def test_a_signal_while_a_script_imports_is_one_line(tmp_path, signum, code, name):
    hook = tmp_path / "sitecustomize.py"  # sends the signal from inside the import of torch
    hook.write_text(
        "import os, sys\n"
        "class Finder:\n"
        "    def find_spec(self, module, *_):\n"
        "        if module == 'torch.nn': os.kill(os.getpid(), int(os.environ['SIGNAL']))\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    done = generate_with_sitecustomize(tmp_path, signum, "ckpt=nowhere.ckpt")
    assert (done.returncode, done.stderr) == (code, f"Stopped by {name}.\n")


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "code", "name"), [STOPS[0]])
def test_a_signal_while_generating_leaves_the_text_so_far(trained, tmp_path, signum, code, name):
    out = tmp_path / "text.txt"
    with start("generate", f"ckpt={trained('lstm')}", "max_words=10000000", f"out={out}", cwd=tmp_path) as process:
        wait_for(process, "w")
        process.send_signal(signum)
        rest, errors = process.communicate(timeout=PROCESS_TIMEOUT)
    assert process.returncode == code
    assert errors == f"loading {trained('lstm')}\nStopped by {name}: this is the text so far\n"
    assert out.read_text().endswith(rest[-100:])
    assert rest.endswith("\n")


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "code", "name"), [STOPS[1]])
def test_a_signal_during_a_beam_search_leaves_the_best_texts_so_far(trained, tmp_path, signum, code, name):
    out = tmp_path / "text.txt"
    hook = tmp_path / "sitecustomize.py"  # sends the signal from inside the search's 20th step
    hook.write_text(
        "import os, sys\n"
        "calls = 0\n"
        "def count(frame, event, _):\n"
        "    global calls\n"
        "    code = frame.f_code\n"
        "    if event == 'call' and code.co_name == 'decode' and code.co_filename.endswith('incremental.py'):\n"
        "        calls += 1\n"
        "        if calls == 20: os.kill(os.getpid(), int(os.environ['SIGNAL']))\n"
        "sys.setprofile(count)\n"
    )
    arguments = [f"ckpt={trained('lstm')}", "num_beams=3", "num_samples=2", "max_words=1000", f"out={out}"]
    done = generate_with_sitecustomize(tmp_path, signum, *arguments)
    assert done.returncode == code
    assert done.stderr == f"loading {trained('lstm')}\nStopped by {name}: this is the text so far\n"
    texts = LanguageModel.load(trained("lstm")).beam_search(num_beams=3, num_samples=2, max_words=19)
    assert out.read_text() == "\n\n".join(text for text, _ in texts) + "\n"


@pytest.mark.slow
def test_ctrl_c_ends_a_sweep_with_its_table(text_folder, tmp_path):
    arguments = small(text_folder, "trainer.max_epochs=100000", "model=lstm,gru", "hydra.sweep.dir=sweep")
    with start("train", "-m", *arguments, cwd=tmp_path) as process:
        wait_for(process, "validation after")
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=PROCESS_TIMEOUT)
    assert process.returncode == 130, errors
    assert len(errors.splitlines()) == 1
    assert "Traceback" not in errors
    [row] = csv.DictReader((tmp_path / "sweep" / "sweep.csv").open())
    assert row["status"] == "stopped"
    assert "sweep.csv" in output


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_an_output_that_takes_no_more_is_one_line(trained, tmp_path):
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, ROOT / "scripts" / "generate.py", f"ckpt={trained('lstm')}", "max_words=3"]
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path, timeout=PROCESS_TIMEOUT
        )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "Cannot write the output: No space left on device."
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_closed_terminal_saves_a_training_run(text_folder, tmp_path):
    options = small(text_folder, "trainer.max_epochs=100000", "hydra.run.dir=run")
    command = [sys.executable, ROOT / "scripts" / "train.py", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path)
    wait_for(process, "validation after")
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=PROCESS_TIMEOUT)
    assert process.returncode == 129
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()
