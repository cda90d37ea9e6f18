"""Ctrl-C ends training, not the program."""

import signal
import threading
from types import FrameType
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_only


class GracefulStop(Callback):
    """The first Ctrl-C lets the step end, validates and stops training; the second quits at once.

    Lightning's own handling leaves the program with exit code 1, before the best checkpoint could be tested.
    """

    def __init__(self) -> None:
        self.asked = False
        self.previous: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over Ctrl-C."""
        if threading.current_thread() is threading.main_thread():
            self.previous = signal.signal(signal.SIGINT, self._ask)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Stop all processes at the same step: each may have been asked at another."""
        if trainer.world_size > 1:
            self.asked = trainer.strategy.reduce_boolean_decision(self.asked, all=False)
        if self.asked:
            trainer.should_stop = True

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start no further epoch when asked while validating."""
        self.on_train_batch_end(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give Ctrl-C back, which `teardown` is not called for."""
        self.teardown(trainer, pl_module, "fit")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give Ctrl-C back."""
        if self.previous is not None:
            signal.signal(signal.SIGINT, self.previous)
            self.previous = None

    def _ask(self, signum: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        rank_zero_only(print)("\nStopping after this step; press Ctrl-C again to quit at once.", flush=True)
