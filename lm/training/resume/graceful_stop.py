"""Callbacks that act on a signal between two steps, and the one that makes Ctrl-C end training, not the program."""

import signal
import threading
from types import FrameType
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from lm.config import signals
from lm.config.launch import in_multirun
from lm.training.distributed import any_rank


class OnSignal(Callback):
    """Takes over `signals` while training, and records in `asked` which this process has received."""

    signals: tuple[signal.Signals, ...]

    def __init__(self) -> None:
        self.asked: set[int] = set()
        self._previous: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():
            self._previous = {signum: signal.signal(signum, self.on_signal) for signum in self.signals}

    def on_signal(self, signum: int, frame: FrameType | None) -> None:
        """Record it; it is handled between two steps."""
        self.asked.add(signum)
        signals.note(signum)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.restore_handlers()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.restore_handlers()

    def restore_handlers(self) -> None:
        """Restore the handlers, before Lightning restores its own: `teardown` would be too late."""
        for signum, previous in self._previous.items():
            signal.signal(signum, previous)
        self._previous = {}


class GracefulStop(OnSignal):
    """The first Ctrl-C stops training after one more step and validates; the second quits at once.

    A single run is then tested and exits normally; in a multirun no further job starts. Lightning's own handling exits
    with code 1, before the best checkpoint could be tested.
    """

    signals = (signal.SIGINT,)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self._stop_if_asked(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop_if_asked(trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace Lightning's SIGTERM handler, which would wait for the other processes and then exit with code 0."""
        signals.restore()

    def _stop_if_asked(self, trainer: Trainer) -> None:
        if any_rank(trainer, self.asked):
            trainer.should_stop = True

    def on_signal(self, signum: int, frame: FrameType | None) -> None:
        if self.asked:
            signals.quit_now(signum)
        self.asked.add(signum)
        if in_multirun():
            signals.note(signum)
        rank_zero_only(print)("\nStopping after the next step; press Ctrl-C again to quit at once.", flush=True)


def was_stopped(trainer: Trainer) -> bool:
    """Whether Ctrl-C has stopped its training."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return any(isinstance(each, GracefulStop) and each.asked for each in callbacks)
