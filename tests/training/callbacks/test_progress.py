"""What the progress displays show, and when they read it."""

from types import SimpleNamespace

import pytest
import torch

from lm.training.callbacks.progress import MetricsColumn, RichBar, duration, three_digits


class Unreadable:
    def item(self):
        raise AssertionError("read between two logs")


def test_the_bar_reads_values_only_when_they_are_new():
    bar = RichBar(leave=True)
    trainer = SimpleNamespace(training=True, callback_metrics={"train/loss": torch.tensor(2.5)})
    module = SimpleNamespace(is_logging_step=True)
    bar.get_metrics(trainer, module)
    assert bar.metrics == "loss 2.5"
    trainer.callback_metrics, module.is_logging_step = {"train/loss": Unreadable()}, False
    bar.get_metrics(trainer, module)
    assert bar.metrics == "loss 2.5"
    trainer.training, trainer.callback_metrics = False, {"val/ppl": torch.tensor(1234.5)}
    bar.get_metrics(trainer, module)
    assert bar.metrics == "val 1.23k"


def test_the_bar_has_the_time_left_of_the_whole_run_in_80_columns(monkeypatch):
    bar = RichBar(leave=True)
    bar._trainer = trainer = SimpleNamespace(
        global_step=300, estimated_stepping_batches=11_936, training=True, max_epochs=40
    )
    trainer.callback_metrics = dict(
        zip(
            ("train/loss", "train/ppl", "val/ppl", "speed/tokens_per_second"),
            torch.tensor([4.6531, 104.91, 121.8, 12_245.0]),
            strict=True,
        )
    )
    bar.start, bar.train_progress_bar_id = (1000.0, 100), 0
    monkeypatch.setattr("time.monotonic", lambda: 1064.0)  # 200 steps in 64 seconds
    bar.get_metrics(trainer, SimpleNamespace(is_logging_step=True))
    shown = MetricsColumn(bar).render(SimpleNamespace(id=0, speed=3.6)).plain
    assert shown == "3.6 it/s loss 4.65 ppl 105 val 122 12.2k tok/s 1h02m"
    assert len(f"{bar._get_train_description(11)} ----- 2300/2984 {shown}") <= 80
    assert bar._get_train_description(0) == "epoch 1/40"
    trainer.max_epochs = -1
    assert bar._get_train_description(2) == "epoch 3"


@pytest.mark.parametrize(
    ("value", "text"),
    [(104.91, "105"), (4.6531, "4.65"), (12_245, "12.2k"), (99.7, "100"), (2_088_628, "2.09M"), (float("inf"), "inf")],
)
def test_numbers_have_three_digits(value, text):
    assert three_digits(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(45.2, "45s"), (200, "3m20s"), (3_720, "1h02m"), (183_600, "2d03h"), (59.9, "1m00s")]
)
def test_durations_have_two_units(seconds, text):
    assert duration(seconds) == text
