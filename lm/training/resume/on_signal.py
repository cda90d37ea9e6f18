"""What callbacks share that act on a signal to the process."""

import signal
import threading
from types import FrameType
from typing import Any

from lightning import Callback, LightningModule, Trainer

from lm.config import signals


class OnSignal(Callback):
    """Takes over signals while training, and notes when one comes.

    Attributes:
        signals: which signals.
        asked: the signals that have come to this process.
    """

    signals: tuple[signal.Signals, ...]

    def __init__(self) -> None:
        self.asked: set[int] = set()
        self._previous: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals over."""
        if threading.current_thread() is threading.main_thread():
            self._previous = {signum: signal.signal(signum, self.on_signal) for signum in self.signals}

    def on_signal(self, signum: int, frame: FrameType | None) -> None:
        """Note it; what it asks for is done between two steps."""
        self.asked.add(signum)
        signals.note(signum)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the signals back."""
        self.on_train_end(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the signals back, before Lightning gives back those that it took: `teardown` would be too late."""
        for signum, previous in self._previous.items():
            signal.signal(signum, previous)
        self._previous = {}


def any_rank(trainer: Trainer, decision: object) -> bool:
    """Whether any process says so: what is decided must be done by all at the same step."""
    if trainer.world_size == 1:
        return bool(decision)
    return trainer.strategy.reduce_boolean_decision(bool(decision), all=False)
