"""The time that training takes, without validation, its tokens, and its mean speed."""

import time
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from lm.data import Window


class TrainingTime(Callback):
    """Measures the training steps: not validation, nor the best checkpoint that follows it.

    The writes of last.ckpt during training count as training.

    Each validation is logged with the minutes and tokens of training until then. It must be the first callback, to stop
    the clock before the others work. A resumed run goes on counting.
    """

    def __init__(self) -> None:
        self.seconds, self.tokens = 0.0, 0
        self.started: float | None = None  # None while the clock is stopped

    @property
    def metrics(self) -> dict[str, float]:
        """Minutes of training, and training tokens of all ranks, also per second; empty without a step."""
        if not self.tokens:
            return {}
        speed = {"minutes": self.seconds / 60, "tokens_per_second": self.tokens / self.seconds}
        return speed | {"train/tokens": self.tokens}

    def on_train_batch_start(self, *_: Any) -> None:
        if self.started is None:
            self.started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Window, batch_idx: int
    ) -> None:
        self.tokens += batch.targets.numel() * trainer.world_size

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop(pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pl_module.log_dict({"train/minutes": self.seconds / 60, "train/tokens": float(self.tokens)})

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop(pl_module)

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds + self._since_start(), "tokens": self.tokens}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds, self.tokens = float(state_dict["seconds"]), int(state_dict["tokens"])

    def _stop(self, module: LightningModule) -> None:
        if module.device.type == "cuda":
            torch.cuda.synchronize()  # the last steps may still be running
        self.seconds += self._since_start()
        self.started = None

    def _since_start(self) -> float:
        return 0.0 if self.started is None else time.perf_counter() - self.started
