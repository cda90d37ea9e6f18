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
    """Divide the learning rate by `factor` (4 in pytorch/examples) after an epoch without a better validation loss.

    `patience` epochs without improvement are tolerated. `total_steps` is unused: the validation loss decides.
    """
    if not factor > 1:
        raise UserError(f"factor={factor} given, but it must be above 1.")
    at_least(0, patience=patience)
    scheduler = ReduceLROnPlateau(optimizer, factor=1 / factor, patience=patience, threshold=0.0)
    return {"scheduler": scheduler, "interval": "epoch", "monitor": "val/loss"}


def one_cycle(
    optimizer: Optimizer, total_steps: int, warmup_ratio: float, div_factor: float, final_div_factor: float
) -> LRSchedulerConfigType:
    """The one-cycle policy with cosine annealing, peaking at the optimizer's rate; momentum is inverse (Smith 2018).

    Warmup takes `warmup_ratio` of the steps. Initial rate: peak / `div_factor`; final: initial / `final_div_factor`.
    """
    probability(warmup_ratio=warmup_ratio)
    above_zero(div_factor=div_factor, final_div_factor=final_div_factor)
    scheduler = OneCycleLR(
        optimizer,
        max_lr=[group["lr"] for group in optimizer.param_groups],
        total_steps=total_steps,
        pct_start=warmup_ratio,
        cycle_momentum=any(group.get("momentum") or "betas" in group for group in optimizer.param_groups),
        div_factor=div_factor,
        final_div_factor=final_div_factor,
    )
    return {"scheduler": scheduler, "interval": "step"}


def cosine(optimizer: Optimizer, total_steps: int, warmup_steps: int) -> LRSchedulerConfigType:
    """Linear warmup to the optimizer's learning rate, then cosine annealing to zero."""
    at_least(0, warmup_steps=warmup_steps)
    factor = partial(cosine_factor, total_steps=total_steps, warmup_steps=warmup_steps)
    return {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}


def cosine_factor(step: int, total_steps: int, warmup_steps: int) -> float:
    """The factor of the peak learning rate at step `step`, counted from 0."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def constant(optimizer: Optimizer, total_steps: int) -> LRSchedulerConfigType:
    """A constant learning rate: the optimizer's."""
    return {"scheduler": LambdaLR(optimizer, lambda step: 1.0), "interval": "step"}
