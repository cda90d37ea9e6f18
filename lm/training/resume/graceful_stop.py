"""Ctrl-C ends training, not the program."""

import signal
from types import FrameType
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from lm.config import signals
from lm.config.launch import in_multirun
from lm.training.resume.on_signal import OnSignal, any_rank


class GracefulStop(OnSignal):
    """The first Ctrl-C stops training after one more step and validates; the second quits at once.

    A run by itself then goes on to test its best checkpoint and ends well; in a multirun no further job begins.

    Lightning's own handling leaves the program with exit code 1, before the best checkpoint could be tested.
    """

    signals = (signal.SIGINT,)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Let this batch be the last one; where gradients are accumulated, only the first of a step may be."""
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self._stop_if_asked(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start no further epoch when asked while validating."""
        self._stop_if_asked(trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take SIGTERM from Lightning, whose handler would wait for the other processes and then exit with code 0."""
        signals.restore()

    def _stop_if_asked(self, trainer: Trainer) -> None:
        """StoppingCriterion all processes at the same step: each may have been asked at another."""
        if any_rank(trainer, self.asked):
            trainer.should_stop = True

    def on_signal(self, signum: int, frame: FrameType | None) -> None:
        """Ask, or quit."""
        if self.asked:
            signals.quit_now(signum)
        self.asked.add(signum)
        if in_multirun():
            signals.note(signum)
        rank_zero_only(print)("\nStopping after the next step; press Ctrl-C again to quit at once.", flush=True)
