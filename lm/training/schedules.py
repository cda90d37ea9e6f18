"""Learning-rate schedules: each a function that returns what Lightning calls an lr_scheduler_config."""

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

from lightning.pytorch.utilities.types import LRSchedulerConfigType
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from lm.config.checks import above_zero, at_least, probability
from lm.errors import UserError


def divide_on_plateau(
    optimizer: Optimizer, total_steps: int, factor: float, patience: int = 0
) -> LRSchedulerConfigType:
    """Divide the learning rate by `factor` (4 in pytorch/examples) after an epoch without a better validation loss.

    `patience` validated epochs without improvement are tolerated. `total_steps` is unused: the validation loss decides.
    """
    if not factor > 1:
        raise UserError(f"factor={factor} given, but it must be above 1.")
    at_least(0, patience=patience)
    scheduler = ReduceLROnPlateau(optimizer, factor=1 / factor, patience=patience, threshold=0.0)
    return {"scheduler": scheduler, "interval": "epoch", "monitor": "val/loss"}


def one_cycle(
    optimizer: Optimizer,
    total_steps: int,
    warmup_ratio: float,
    div_factor: float,
    final_div_factor: float,
    base_momentum: float = 0.85,
    max_momentum: float = 0.95,
) -> LRSchedulerConfigType:
    """The one-cycle policy with cosine annealing, peaking at the optimizer's rate; momentum is inverse (Smith 2018).

    Warmup takes `warmup_ratio` of the steps. Initial rate: peak / `div_factor`; final: initial / `final_div_factor`.
    Momentum, or Adam's first beta, falls from `max_momentum` to `base_momentum` in the warmup and then rises again,
    whatever the optimizer's own is; an optimizer without momentum keeps none.
    """
    probability(warmup_ratio=warmup_ratio, base_momentum=base_momentum, max_momentum=max_momentum)
    above_zero(div_factor=div_factor, final_div_factor=final_div_factor)
    scheduler = OneCycle(
        optimizer,
        max_lr=[group["lr"] for group in optimizer.param_groups],
        total_steps=total_steps,
        # torch divides by the number of steps between the first and the last of the warmup
        pct_start=float(warmup_ratio) if warmup_ratio * total_steps > 1 else 0.0,
        cycle_momentum=any(map(has_momentum, optimizer.param_groups)),
        base_momentum=base_momentum,
        max_momentum=max_momentum,
        div_factor=div_factor,
        final_div_factor=final_div_factor,
    )
    return {"scheduler": scheduler, "interval": "step"}


class OneCycle(OneCycleLR):
    """torch's OneCycleLR, of which a longer run that resumes another has its own number of steps."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        length = {name: getattr(self, name) for name in ("total_steps", "_schedule_phases")}
        super().load_state_dict(state_dict | length)


def one_cycle_flat(
    optimizer: Optimizer,
    total_steps: int,
    warmup_ratio: float,
    flat_ratio: float,
    annealing_ratio: float,
    div_factor: float,
    final_div_factor: float,
    base_momentum: float,
    max_momentum: float,
) -> LRSchedulerConfigType:
    """One cycle in four linear phases: warmup to the optimizer's rate, flat, back to the initial rate, annealing.

    The ratios are fractions of all steps; the third phase has the rest. Initial rate: peak / `div_factor`; final:
    initial / `final_div_factor`. Momentum, or Adam's first beta, falls from `max_momentum` to `base_momentum` in the
    warmup and rises again in the third phase; an optimizer without momentum keeps none.
    """
    probability(warmup_ratio=warmup_ratio, flat_ratio=flat_ratio, annealing_ratio=annealing_ratio)
    probability(base_momentum=base_momentum, max_momentum=max_momentum)
    above_zero(div_factor=div_factor, final_div_factor=final_div_factor)
    fall = warmup_ratio + flat_ratio
    if fall + annealing_ratio > 1 + 1e-9:  # 0.56 + 0.34 + 0.1 is above 1 in floating point
        raise UserError(
            f"warmup_ratio={warmup_ratio}, flat_ratio={flat_ratio} and annealing_ratio={annealing_ratio} given, but "
            "they are fractions of all steps, and must add up to at most 1."
        )
    low = 1 / div_factor
    ends = [end * (total_steps - 1) for end in (0, warmup_ratio, fall, 1 - annealing_ratio, 1)]
    factors = [low, 1.0, 1.0, low, low / final_div_factor]
    momenta = [max_momentum, base_momentum, base_momentum, max_momentum, max_momentum]
    return {"scheduler": PiecewiseLinear(optimizer, ends, factors, momenta), "interval": "step"}


class PiecewiseLinear(LRScheduler):
    """Learning rate and momentum, interpolated linearly between given steps.

    A longer run that resumes another has its own ends.

    Args:
        optimizer: its learning rates are those at a factor of 1.
        ends: the steps, counted from 0, in increasing order.
        factors: of the learning rate at these steps.
        momenta: the momentum, or Adam's first beta, at these steps.
    """

    def __init__(
        self, optimizer: Optimizer, ends: Sequence[float], factors: Sequence[float], momenta: Sequence[float]
    ) -> None:
        self.ends, self.factors, self.momenta = ends, factors, momenta
        self.with_momentum = list(map(has_momentum, optimizer.param_groups))  # before the schedule, which may set 0
        super().__init__(optimizer)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict | {"ends": self.ends})

    def get_lr(self) -> list[float | Tensor]:
        """The learning rate of each parameter group, whose momentum it sets, as torch's OneCycleLR does."""
        momentum = interpolate(self.last_epoch, self.ends, self.momenta)
        for group, with_momentum in zip(self.optimizer.param_groups, self.with_momentum, strict=True):
            if with_momentum and "betas" in group:
                group["betas"] = (momentum, *group["betas"][1:])
            elif with_momentum:
                group["momentum"] = momentum
        factor = interpolate(self.last_epoch, self.ends, self.factors)
        return [rate * factor for rate in self.base_lrs]


def has_momentum(group: dict[str, Any]) -> bool:
    """Whether the optimizer of a parameter group has momentum, or a first beta, above zero."""
    return bool(group["betas"][0] if "betas" in group else group.get("momentum"))


def interpolate(x: float, points: Sequence[float], values: Sequence[float]) -> float:
    """The value at x, linear between the points, which increase; the last value after the last point."""
    for (start, end), (first, last) in zip(pairwise(points), pairwise(values), strict=True):
        if x < end:
            return first + (last - first) * (x - start) / (end - start)
    return values[-1]


def cosine(optimizer: Optimizer, total_steps: int, warmup_steps: int) -> LRSchedulerConfigType:
    """Linear warmup to the optimizer's learning rate, then cosine annealing to zero."""
    at_least(0, warmup_steps=warmup_steps)
    factor = partial(cosine_factor, total_steps=total_steps, warmup_steps=warmup_steps)
    return {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}


def cosine_factor(step: int, total_steps: int, warmup_steps: int) -> float:
    """The factor of the peak learning rate at step `step`, counted from 0."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return 0.5 * (1 + math.cos(math.pi * progress(step, total_steps, warmup_steps)))


def linear(optimizer: Optimizer, total_steps: int, warmup_steps: int) -> LRSchedulerConfigType:
    """Linear warmup to the optimizer's learning rate, then linear decay to zero (Devlin et al. 2019)."""
    at_least(0, warmup_steps=warmup_steps)
    factor = partial(linear_factor, total_steps=total_steps, warmup_steps=warmup_steps)
    return {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}


def linear_factor(step: int, total_steps: int, warmup_steps: int) -> float:
    """The factor of the peak learning rate at step `step`, counted from 0."""
    return (step + 1) / warmup_steps if step < warmup_steps else 1 - progress(step, total_steps, warmup_steps)


def progress(step: int, total_steps: int, warmup_steps: int) -> float:
    """The fraction of the steps after the warmup that are done at step `step`."""
    return min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))


def constant(optimizer: Optimizer, total_steps: int) -> LRSchedulerConfigType:
    """A constant learning rate: the optimizer's."""
    return {"scheduler": LambdaLR(optimizer, lambda step: 1.0), "interval": "step"}
