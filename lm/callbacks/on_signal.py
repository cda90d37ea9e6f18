"""What callbacks share that act on a signal to the process."""

import signal
import threading
from types import FrameType
from typing import Any

from lightning import Callback, LightningModule, Trainer


class OnSignal(Callback):
    """Takes over a signal while training, and notes when it comes.

    Attributes:
        signum: which signal.
        asked: whether it has come to this process.
    """

    signum: signal.Signals

    def __init__(self) -> None:
        self.asked = False
        self._previous: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signal over."""
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(self.signum, self.on_signal)

    def on_signal(self, signum: int, frame: FrameType | None) -> None:
        """Note it; what it asks for is done between two steps."""
        self.asked = True

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the signal back, which `teardown` is not called for."""
        self.teardown(trainer, pl_module, "fit")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the signal back."""
        if self._previous is not None:
            signal.signal(self.signum, self._previous)
            self._previous = None


def in_any_process(trainer: Trainer, decision: bool) -> bool:
    """Whether any process says so: what is decided must be done by all at the same step."""
    if trainer.world_size == 1:
        return decision
    return trainer.strategy.reduce_boolean_decision(decision, all=False)
