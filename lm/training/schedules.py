"""Learning-rate schedules: each a function that returns what Lightning calls an lr_scheduler_config."""

import math
from functools import partial

from lightning.pytorch.utilities.types import LRSchedulerConfigType
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR, ReduceLROnPlateau

from lm.config.checks import above_zero, at_least, probability
from lm.errors import UserError


def divide_on_plateau(
    optimizer: Optimizer, total_steps: int, factor: float, patience: int = 0
) -> LRSchedulerConfigType:
    """Divide the learning rate by `factor` when the validation loss does not fall below its best.

    Args:
        optimizer: whose learning rate to set.
        total_steps: of the training run; unused, the validation loss decides.
        factor: above 1; pytorch/examples divides by 4.
        patience: how many epochs without improvement are let pass.

    Raises:
        UserError: if a value is out of range.
    """
    if not factor > 1:
        raise UserError(f"factor={factor} given, but it must be above 1.")
    at_least(0, patience=patience)
    scheduler = ReduceLROnPlateau(optimizer, factor=1 / factor, patience=patience, threshold=0.0)
    return {"scheduler": scheduler, "interval": "epoch", "monitor": "val/loss"}


def one_cycle(
    optimizer: Optimizer, total_steps: int, warmup_share: float, start_divisor: float, final_divisor: float
) -> LRSchedulerConfigType:
    """Up to the optimizer's learning rate and down again, in cosines, with momentum the other way (Smith 2018).

    Args:
        optimizer: its learning rate is the highest one.
        total_steps: of the training run.
        warmup_share: the share of the steps on the way up.
        start_divisor: the first learning rate is the highest divided by this.
        final_divisor: the last learning rate is the first divided by this.

    Raises:
        UserError: if a value is out of range.
    """
    probability(warmup_share=warmup_share)
    above_zero(start_divisor=start_divisor, final_divisor=final_divisor)
    momentum = any(group.get("momentum") or "betas" in group for group in optimizer.param_groups)
    scheduler = OneCycleLR(
        optimizer,
        max_lr=[group["lr"] for group in optimizer.param_groups],
        total_steps=total_steps,
        pct_start=warmup_share,
        cycle_momentum=momentum,
        div_factor=start_divisor,
        final_div_factor=final_divisor,
    )
    return {"scheduler": scheduler, "interval": "step"}


def cosine(optimizer: Optimizer, total_steps: int, warmup_steps: int) -> LRSchedulerConfigType:
    """A straight line up to the optimizer's learning rate, then half a cosine down to zero.

    Args:
        optimizer: its learning rate is the highest one.
        total_steps: of the training run.
        warmup_steps: steps on the way up.

    Raises:
        UserError: if `warmup_steps` is negative.
    """
    at_least(0, warmup_steps=warmup_steps)
    share = partial(cosine_share, total_steps=total_steps, warmup_steps=warmup_steps)
    return {"scheduler": LambdaLR(optimizer, share), "interval": "step"}


def cosine_share(step: int, total_steps: int, warmup_steps: int) -> float:
    """The share of the highest learning rate that step `step`, counted from 0, uses."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def constant(optimizer: Optimizer, total_steps: int) -> LRSchedulerConfigType:
    """The optimizer's learning rate throughout."""
    return {"scheduler": LambdaLR(optimizer, lambda step: 1.0), "interval": "step"}
