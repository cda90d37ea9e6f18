"""Whatever ends training: the last state is saved and validated, and a longer run is one that was never stopped."""

import csv
import os
import re
import signal
from pathlib import Path

import pytest
import torch
from lightning import Callback, Trainer

from lm.training.resume import ResumableCheckpoint
from scripts.train import train
from tests.conftest import ADAM, tiny_config
from tests.training.resume.test_resume import assert_same_end, finished

RUN = (
    *("model=lstm", *ADAM, "scheduler=constant", "model.core.dropout=0.3", "data.bptt_jitter=true", "test=false"),
    *("trainer.max_epochs=2", "trainer.limit_train_batches=13", "trainer.accumulate_grad_batches=3"),
    *("trainer.log_every_n_steps=4", "trainer.limit_val_batches=2"),
)  # two epochs of 5 steps, of 13 windows
STOP = "+callbacks.stop._target_=tests.training.test_end_of_training.Stop"


class Stop(Callback):
    """Wishes to stop in a hook, the n-th time that it is called."""

    def __init__(self, hook: str, after: int) -> None:
        self.after = after
        setattr(self, hook, self.stop)

    def stop(self, trainer: object, *_: object) -> None:
        self.after -= 1
        trainer.should_stop = trainer.should_stop or self.after == 0


def stop(hook: str, after: int) -> tuple[str, ...]:
    return (STOP, f"+callbacks.stop.hook={hook}", f"+callbacks.stop.after={after}")


EARLY = "+callbacks.early"
ENDS = {  # what ends the first run, and after which step
    "max_steps in the first epoch": (("trainer.max_steps=3",), 3),
    "max_steps in the second epoch": (("trainer.max_steps=8",), 8),
    "max_steps at the end of an epoch": (("trainer.max_steps=5",), 5),
    "max_epochs": (("trainer.max_epochs=1",), 5),
    "a callback in the middle of a step": (stop("on_train_batch_end", 4), 2),
    "a callback before a step": (stop("on_train_batch_start", 4), 2),
    "a callback in a validation in the middle of a step": (
        (*stop("on_validation_end", 3), "trainer.val_check_interval=4"),
        4,
    ),
    "a callback at the end of an epoch": (stop("on_train_epoch_end", 1), 5),
    "a callback before an epoch": (stop("on_train_epoch_start", 2), 5),
    "early stopping": (
        (
            *(f"{EARLY}._target_=lightning.pytorch.callbacks.EarlyStopping", f"{EARLY}.monitor=val/loss"),
            *(f"{EARLY}.patience=0", f"{EARLY}.min_delta=9", "trainer.val_check_interval=4"),
        ),
        3,
    ),
    "max_steps in the first epoch with early stopping": (
        (
            *(f"{EARLY}._target_=lightning.pytorch.callbacks.EarlyStopping", f"{EARLY}.monitor=val/loss"),
            "trainer.max_steps=3",
        ),
        3,
    ),
    "an epoch that is not validated": (("trainer.max_epochs=1", "trainer.check_val_every_n_epoch=2"), 5),
    "no validation": (("trainer.max_steps=7", "trainer.limit_val_batches=0"), 7),
    "validation by steps": (
        ("trainer.max_steps=7", "trainer.check_val_every_n_epoch=null", "trainer.val_check_interval=6"),
        7,
    ),
}


@pytest.fixture(scope="module")
def undisturbed(text_folder, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    train(tiny_config(text_folder, folder, *RUN))
    return folder


def losses(folder: Path) -> dict[str, str]:
    """The training loss of each logged interval, by its step."""
    rows = (row for log in sorted(folder.glob("csv*/metrics.csv")) for row in csv.DictReader(log.open()))
    return {row["step"]: row["train/loss"] for row in rows if row.get("train/loss")}


QUICK = ("max_steps in the second epoch", "a callback in the middle of a step", "early stopping", "no validation")
QUICK += ("an epoch that is not validated",)


@pytest.mark.parametrize("end", [end if end in QUICK else pytest.param(end, marks=pytest.mark.slow) for end in ENDS])
def test_the_last_state_is_saved_and_validated_and_a_longer_run_is_one_never_stopped(
    end, undisturbed, text_folder, tmp_path, capsys
):
    overrides, step = ENDS[end]
    metrics = train(tiny_config(text_folder, tmp_path, *RUN, *overrides))
    last = finished(tmp_path)
    assert last["global_step"] == step
    if end == "no validation":
        assert metrics == {}
    else:
        best = torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)
        assert metrics["val/step"] == best["global_step"]
        validated = re.findall(r"validation after (\d+) steps", capsys.readouterr().out)
        assert int(validated[-1]) == step
        assert len(set(validated)) == len(validated)
    train(tiny_config(text_folder, tmp_path, *RUN, f"ckpt={tmp_path}/checkpoints/last.ckpt"))
    assert_same_end(finished(tmp_path), finished(undisturbed))
    assert losses(tmp_path) == losses(undisturbed)


class Signal(Callback):
    """Sends SIGTERM to its own process after so many windows."""

    def __init__(self, after: int) -> None:
        self.after = after

    def on_train_batch_end(self, *_: object) -> None:
        self.after -= 1
        if self.after == 0:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("after", [4, pytest.param(5, marks=pytest.mark.slow)])  # windows: in a step of three
def test_sigterm_in_the_midst_of_a_step_is_saved_after_it(after, undisturbed, text_folder, tmp_path):
    fatal = (
        "+callbacks.signal._target_=tests.training.test_end_of_training.Signal",
        f"+callbacks.signal.after={after}",
    )
    with pytest.raises(SystemExit) as ended:
        train(tiny_config(text_folder, tmp_path, *RUN, *fatal))
    assert ended.value.code == 143
    assert finished(tmp_path)["resume"]["windows"] == {"epoch": 0, "position": 6}
    train(tiny_config(text_folder, tmp_path, *RUN, f"ckpt={tmp_path}/checkpoints/last.ckpt"))
    assert_same_end(finished(tmp_path), finished(undisturbed))
    assert losses(tmp_path) == losses(undisturbed)


def test_no_checkpoint_is_written_in_the_midst_of_a_step(monkeypatch, text_folder, tmp_path):
    positions = []
    save = ResumableCheckpoint._save

    def noting(point: ResumableCheckpoint, trainer: Trainer) -> None:
        save(point, trainer)
        positions.append(finished(tmp_path)["resume"]["windows"]["position"])

    monkeypatch.setattr(ResumableCheckpoint, "_save", noting)
    often = ("callbacks.resumable_checkpoint.every_n_minutes=1e-9", "callbacks.resumable_checkpoint.every_n_steps=null")
    train(tiny_config(text_folder, tmp_path, *RUN, *often, "trainer.max_epochs=1"))
    assert positions == [3, 6, 9, 12, 0]


def test_a_resumed_run_validates_after_the_same_steps(text_folder, tmp_path, capsys):
    by_windows = ("trainer.check_val_every_n_epoch=null", "trainer.val_check_interval=6", "trainer.max_epochs=3")

    def validated(folder: str, *more: str) -> list[int]:
        train(tiny_config(text_folder, tmp_path / folder, *RUN, *by_windows, *more))
        return [int(step) for step in re.findall(r"validation after (\d+) steps", capsys.readouterr().out)]

    stopped = validated("stopped", "trainer.max_steps=3")
    resumed = validated("stopped", f"ckpt={tmp_path}/stopped/checkpoints/last.ckpt")
    assert stopped == [2, 3]
    assert [2, *resumed] == validated("whole")
