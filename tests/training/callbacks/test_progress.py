"""What the progress displays show, and when they read it."""

from types import SimpleNamespace

import torch

from lm.training.callbacks.progress import RichBar


class Unreadable:
    def item(self):
        raise AssertionError("read between two logs")


def test_the_bar_reads_values_only_when_they_are_new():
    bar = RichBar(leave=True)
    trainer = SimpleNamespace(training=True, callback_metrics={"train/loss": torch.tensor(2.5)})
    module = SimpleNamespace(is_logging_step=True)
    assert bar.get_metrics(trainer, module) == {"loss": "2.5"}
    trainer.callback_metrics, module.is_logging_step = {"train/loss": Unreadable()}, False
    assert bar.get_metrics(trainer, module) == {"loss": "2.5"}
    trainer.training, trainer.callback_metrics = False, {"val/ppl": torch.tensor(1234.5)}
    assert bar.get_metrics(trainer, module) == {"val ppl": "1,234.5"}
