"""Stop a run whose loss is not finite before an optimizer step corrupts the weights."""

import math

import torch
from torch import Tensor
from torch.optim import Optimizer

from lm.errors import UserError


class FiniteLoss:
    """Raises for the first loss that is not finite: at once, or after `defer` whenever `check` is called.

    To read a loss is to wait for the GPU that computes it. A deferred check instead leaves a flag on the device,
    `optimizer.found_inf`, with which a fused optimizer skips its steps, as `torch.amp.GradScaler` has it do: the
    weights remain those before the first bad step.
    """

    def __init__(self) -> None:
        self.unread: list[tuple[Tensor, int, float]] = []  # losses with their steps and learning rates
        self.optimizer: Optimizer | None = None  # the one that skips its steps; None: check at once

    def defer(self, optimizer: Optimizer) -> None:
        """Check only in `check`, if the optimizer can skip a step."""
        if getattr(optimizer, "_step_supports_amp_scaling", False):  # GradScaler asks for the same attribute
            self.optimizer = optimizer

    def update(self, loss: Tensor, step: int, lr: float) -> None:
        """Add the loss in nats of the next optimizer step, which is number `step`."""
        self.unread.append((loss.detach(), step, lr))
        if self.optimizer is None:
            self.check()
        else:
            found = (~loss.detach().isfinite()).float()
            self.optimizer.found_inf = torch.maximum(found, getattr(self.optimizer, "found_inf", found))  # type: ignore[attr-defined]

    def check(self) -> None:
        """Read the losses since the last check."""
        unread, self.unread = self.unread, []
        losses = torch.stack([loss for loss, _, _ in unread]).tolist() if unread else []
        for loss, (_, step, lr) in zip(losses, unread, strict=True):
            if not math.isfinite(loss):
                raise UserError(
                    f"The loss is {loss} at step {step} with a learning rate of {lr:g}: "
                    "lower optimizer.lr or trainer.gradient_clip_val. The last good checkpoint, if any, is kept."
                )
