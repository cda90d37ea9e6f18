"""A run that is killed and resumed ends as one that never was: bitwise."""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from lightning import Callback

from lm.errors import UserError
from scripts.train import train
from tests.conftest import ADAM, PROCESS_TIMEOUT, run, small, tiny_config, wait_for

SCRIPT = Path(__file__).parents[3] / "scripts" / "train.py"
HARD = (
    "model.core.dropout=0.3",
    "data.bptt_jitter=true",
    "trainer.max_epochs=2",
    "callbacks.resumable_checkpoint.every_n_steps=5",
)
RUNS = {
    "lstm": ("model=lstm", *ADAM),
    "transformer with a one-cycle schedule": ("model=transformer", *ADAM, "scheduler=one_cycle"),
    "gru in bfloat16, plateau schedule": ("model=gru", "optimizer.lr=5", "trainer.precision=bf16-mixed"),
    "adaptive softmax, accumulated gradients": (
        *("model=lstm", *ADAM, "trainer.accumulate_grad_batches=3"),
        *("model/head=adaptive", "model.head.cutoffs=[6]"),
    ),
    "sampled softmax": (
        *("model=gru", *ADAM, "model/head=sampled"),
        *("model.head.num_frequent=4", "model.head.num_sampled=6", "model.head.tie_weights=true"),
    ),
    "transformer-xl, sampled mixture of softmaxes": (
        *("model=transformer_xl", *ADAM, "model.core.memory=6", "model/head=mixture", "model.head.num_experts=2"),
        *("model.head.num_frequent=4", "model.head.num_sampled=6", "model.head.tie_weights=true"),
    ),
    "weight drop, locked and embedding dropout": ("model=awd_lstm", *ADAM, "regularizer=l2"),
    "muon, four phases, partial shuffle": (
        *("model=gru", "optimizer=muon", "optimizer.lr=0.03", "optimizer.decay=matrices"),
        *("scheduler=one_cycle_flat", "data.partial_shuffle=true"),
    ),
    "averaged weights": ("model=lstm", *ADAM, "averaging=ema", "trainer.val_check_interval=0.3"),
}


class Crash(Callback):
    """Fails after so many windows, as if killed."""

    def __init__(self, after: int) -> None:
        self.after = after

    def on_train_batch_end(self, *_: object) -> None:
        self.after -= 1
        if self.after < 0:
            raise KeyError("crash")


def finished(run_dir: Path) -> dict:
    return torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)


def crash(text_folder: Path, run_dir: Path, after: int, *overrides: str) -> None:
    fatal = ("+callbacks.crash._target_=tests.training.resume.test_resume.Crash", f"+callbacks.crash.after={after}")
    with pytest.raises(KeyError):
        train(tiny_config(text_folder, run_dir, *overrides, *fatal))


def assert_same_end(first: dict, second: dict) -> None:
    assert first["global_step"] == second["global_step"]
    assert first["epoch"] == second["epoch"]
    torch.testing.assert_close(first["state_dict"], second["state_dict"], rtol=0, atol=0)
    for mine, other in zip(first["optimizer_states"], second["optimizer_states"], strict=True):
        assert mine["param_groups"] == other["param_groups"]
        torch.testing.assert_close(mine["state"], other["state"], rtol=0, atol=0)
    assert first["lr_schedulers"] == second["lr_schedulers"]
    torch.testing.assert_close(first.get("averaging"), second.get("averaging"), rtol=0, atol=0)


@pytest.fixture(scope="module")
def undisturbed(text_folder, tmp_path_factory):
    """For each kind of run, its folder when nothing happened to it."""
    folders = {}

    def folder(name: str) -> Path:
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp("undisturbed")
            train(tiny_config(text_folder, folders[name], *HARD, *RUNS[name]))
        return folders[name]

    return folder


# each trains three times; averaged weights are among those that are killed below
SOME = [
    name if name == "transformer with a one-cycle schedule" else pytest.param(name, marks=pytest.mark.slow)
    for name in RUNS
    if name != "averaged weights"
]


@pytest.mark.parametrize("name", SOME)
def test_weights_are_bitwise_those_of_a_run_that_was_never_stopped(name, undisturbed, text_folder, tmp_path):
    expected = finished(undisturbed(name))
    windows_per_epoch = expected["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["ready"] // 2
    assert windows_per_epoch > 20
    overrides = (*HARD, *RUNS[name])
    crash(text_folder, tmp_path, 20, *overrides)  # in mid-epoch
    resumed = (*overrides, f"ckpt={tmp_path}/checkpoints/last.ckpt")
    crash(text_folder, tmp_path, windows_per_epoch, *resumed)  # in the second epoch
    metrics = train(tiny_config(text_folder, tmp_path, *resumed))
    assert_same_end(finished(tmp_path), expected)
    assert metrics["val/tokens"] > 0


def test_a_longer_run_goes_on_from_the_end_of_a_shorter_one(undisturbed, text_folder, tmp_path):
    name = "lstm"
    train(tiny_config(text_folder, tmp_path, *HARD, *RUNS[name], "trainer.max_epochs=1"))
    train(tiny_config(text_folder, tmp_path, *HARD, *RUNS[name], f"ckpt={tmp_path}/checkpoints/last.ckpt"))
    assert_same_end(finished(tmp_path), finished(undisturbed(name)))


def test_going_on_with_a_finished_run_prints_its_best(text_folder, tmp_path, capsys):
    config = tiny_config(text_folder, tmp_path, "trainer.max_epochs=1", "test=false")
    metrics = train(config)
    config.ckpt = str(tmp_path / "checkpoints" / "last.ckpt")
    capsys.readouterr()
    again = train(config)
    assert again["val/ppl"] == pytest.approx(metrics["val/ppl"])
    assert f"{metrics['val/ppl']:,.2f}" in capsys.readouterr().out


def test_curves_go_on_without_a_doubled_or_missing_step(text_folder, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    overrides = (*HARD, *RUNS["lstm"], "trainer.log_every_n_steps=1", "trainer.max_epochs=1")
    crash(text_folder, tmp_path, 13, *overrides)
    train(tiny_config(text_folder, tmp_path, *overrides, f"ckpt={tmp_path}/checkpoints/last.ckpt"))
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    steps = [event.step for event in events.Scalars("train/loss")]
    assert steps == list(range(finished(tmp_path)["global_step"]))


def test_the_first_log_after_resuming_covers_the_whole_interval(text_folder, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    overrides = (*HARD, *RUNS["lstm"], "regularizer=ar_tar", "trainer.log_every_n_steps=7", "trainer.max_epochs=1")
    train(tiny_config(text_folder, tmp_path / "whole", *overrides))
    crash(text_folder, tmp_path / "stopped", 13, *overrides)
    resumed = f"ckpt={tmp_path}/stopped/checkpoints/last.ckpt"
    train(tiny_config(text_folder, tmp_path / "stopped", *overrides, resumed))
    whole, stopped = (EventAccumulator(str(tmp_path / run / "tensorboard")).Reload() for run in ("whole", "stopped"))
    for tag in ("train/loss", "train/penalty"):
        logged = [[(event.step, event.value) for event in run.Scalars(tag)] for run in (whole, stopped)]
        assert logged[0] == logged[1] != []


def test_last_finds_the_newest_run_of_the_same_config(text_folder, tmp_path):
    overrides = (*HARD, *RUNS["lstm"], "trainer.max_epochs=1")
    for name in ("first", "second"):
        crash(text_folder, tmp_path / name, 12, *overrides)
    crash(text_folder, tmp_path / "third", 12, *overrides, "seed=5")
    config = tiny_config(text_folder, tmp_path / "new", *overrides, "ckpt=last")
    train(config)
    assert config.run_dir == str(tmp_path / "second")
    with pytest.raises(UserError, match=r"ckpt=last given, but no run in .* has this config"):
        train(tiny_config(text_folder, tmp_path / "new", *overrides, "ckpt=last", "seed=6"))


def test_another_config_or_a_checkpoint_of_the_best_is_refused(undisturbed, text_folder, tmp_path):
    folder = undisturbed("lstm") / "checkpoints"
    with pytest.raises(UserError, match=r"had another model\.core\.hidden_size \(16, now 24\)"):
        train(
            tiny_config(
                text_folder, tmp_path, *HARD, *RUNS["lstm"], f"ckpt={folder}/last.ckpt", "model.core.hidden_size=24"
            )
        )
    with pytest.raises(UserError, match=r"use last\.ckpt of its run"):
        train(tiny_config(text_folder, tmp_path, *HARD, *RUNS["lstm"], f"ckpt={folder}/best.ckpt"))


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(text_folder, tmp_path):
    overrides = ("model=rnn_relu", "optimizer.lr=1e30", "trainer.gradient_clip_val=null", *HARD)
    with pytest.raises(UserError, match=r"The loss is (nan|inf) at step \d+ with a learning rate of 1e\+30"):
        train(tiny_config(text_folder, tmp_path, *overrides, "callbacks.resumable_checkpoint.every_n_steps=1"))
    for path in (tmp_path / "checkpoints").glob("*.ckpt"):
        weights = torch.load(path, weights_only=True)["state_dict"]
        assert all(weight.isfinite().all() for weight in weights.values())


def test_a_full_disk_is_one_clear_error_and_the_old_checkpoint_stays(tmp_path, monkeypatch):
    from lm.training.resume.checkpoint_io import AtomicCheckpointIO

    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 1}, path)

    def full(checkpoint, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match=r"Cannot write .*last\.ckpt: No space left on device\."):
        AtomicCheckpointIO().save_checkpoint({"step": 2}, path)
    assert torch.load(path) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


# --- as processes that are really killed


def start(text_folder: Path, runs: Path, *overrides: str) -> subprocess.Popen:
    options = small(text_folder, "data.eval_batch_size=3", *HARD, "trainer.max_epochs=4")
    command = [sys.executable, str(SCRIPT), *options]
    command += [*overrides, f"hydra.run.dir={runs}/{time.time_ns()}"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["transformer with a one-cycle schedule", "averaged weights"])
def test_a_process_killed_several_times_ends_bitwise_the_same(name, text_folder, tmp_path):
    overrides = (*RUNS[name], "callbacks.resumable_checkpoint.every_n_steps=1")
    whole = start(text_folder, tmp_path / "whole", *overrides)
    output, _ = whole.communicate(timeout=PROCESS_TIMEOUT)
    assert whole.returncode == 0, output
    chooser = random.Random(name)
    killed = tmp_path / "killed"
    kill(start(text_folder, killed, *overrides), chooser)
    for _ in range(2):
        kill(start(text_folder, killed, *overrides, "ckpt=last"), chooser)
    last = start(text_folder, killed, *overrides, "ckpt=last")
    output, _ = last.communicate(timeout=PROCESS_TIMEOUT)
    assert last.returncode == 0, output
    [first], [second] = (list(runs.glob("*/checkpoints/last.ckpt")) for runs in (tmp_path / "whole", killed))
    assert_same_end(torch.load(first, weights_only=True), torch.load(second, weights_only=True))


def kill(process: subprocess.Popen, chooser: random.Random) -> None:
    """Let it train for a while, then kill it as the kernel does."""
    for _ in range(chooser.randrange(2, 5)):
        while "epoch" not in (line := process.stdout.readline()):
            assert line, "it has ended by itself"
    time.sleep(chooser.random() / 10)
    process.kill()
    assert process.wait() == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        ("model=transformer", "averaging=ema"),
        ("model=gru", "data.partial_shuffle=true", "model/head=adaptive", "model.head.cutoffs=[6]"),
        ("model=awd_lstm", "model.core.input_dropout=0", "model.core.weight_dropout=0", "model.embedding_dropout=0"),
        ("model=transformer_xl", "model.core.memory=6", "model/head=mixture", "model.head.latent_dropout=0"),
    ],
)
def test_one_and_two_processes_train_alike_and_go_on_from_each_others_checkpoints(model, text_folder, tmp_path):
    overrides = (*HARD, *model, "model.core.dropout=0", "model.output_dropout=0", "optimizer.lr=0.5")
    overrides += (
        "trainer.precision=32-true",
        "scheduler=constant",
        "trainer.max_epochs=1",
        "trainer.log_every_n_steps=1",
    )
    ends, losses = {}, {}
    for name, parts in {
        "one": [(1, -1)],
        "two_then_one": [(2, 17), (1, -1)],
        "one_then_two": [(1, 17), (2, -1)],
    }.items():
        folder = tmp_path / name
        for devices, max_steps in parts:
            resumed = [f"ckpt={folder}"] if folder.exists() else []
            train_on(devices, text_folder, folder, *overrides, f"trainer.max_steps={max_steps}", *resumed)
        ends[name] = finished(folder)
        logs = sorted(folder.glob("csv*/metrics.csv"))
        rows = (row for log in logs for row in csv.DictReader(log.open()))
        losses[name] = {row["step"]: float(row["train/loss"]) for row in rows if row["train/loss"]}
    for each in losses.values():
        assert each == pytest.approx(losses["one"], rel=1e-5)
    for end in ends.values():
        assert end["global_step"] == ends["one"]["global_step"]
        torch.testing.assert_close(end["state_dict"], ends["one"]["state_dict"], rtol=1e-4, atol=1e-5)


def train_on(devices: int, text_folder: Path, run_dir: Path, *overrides: str) -> None:
    """Train in this process, which saves the time of starting another, or in two."""
    if devices == 1:
        train(tiny_config(text_folder, run_dir, *overrides))
    else:
        options = small(text_folder, "data.eval_batch_size=3", *overrides, f"run_dir={run_dir}")
        done = run("train", *options, f"trainer.devices={devices}", cwd=text_folder.parent)
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_sigterm_writes_a_checkpoint_and_ends_as_schedulers_understand(text_folder, tmp_path):
    process = start(text_folder, tmp_path, "model=lstm", "callbacks.resumable_checkpoint.every_n_steps=null")
    wait_for(process, "batch")
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=PROCESS_TIMEOUT)
    assert process.returncode == 143, output
    assert "Terminated. Resume with ckpt=" in output
    assert [*tmp_path.glob("*/checkpoints/last.ckpt")]


@pytest.mark.slow
def test_ctrl_c_in_mid_epoch_leaves_a_resumable_checkpoint(text_folder, tmp_path):
    options = ("model=lstm", "callbacks.resumable_checkpoint.every_n_steps=null", "trainer.max_epochs=100000")
    process = start(text_folder, tmp_path, *options)
    wait_for(process, "epoch   3 | batch    1")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=PROCESS_TIMEOUT)
    assert process.returncode == 0, output
    [last] = tmp_path.glob("*/checkpoints/last.ckpt")
    stored = torch.load(last, weights_only=True)
    assert stored["resume"]["windows"]["position"] > 0
    steps = int(output.rpartition("validation after ")[2].split()[0])
    assert stored["global_step"] == steps
