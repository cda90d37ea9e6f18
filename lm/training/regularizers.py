"""Penalties that are added to the training loss, but not to the reported one.

A regulariser is called with the core's outputs before and after dropout, `[T, B, H]` each, and the model, whose
weights it may use; it returns a scalar, in nats per token as the loss.
"""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from lm.models import CausalLM

Regularizer: TypeAlias = Callable[[Tensor, Tensor, CausalLM], Tensor]


def activation_regularization(output: Tensor, dropped_output: Tensor, model: CausalLM, alpha: float) -> Tensor:
    """AR: α times the mean square of the outputs after dropout (Merity et al. 2017, arXiv:1708.01009)."""
    return alpha * _mean_square(dropped_output)


def temporal_activation_regularization(output: Tensor, dropped_output: Tensor, model: CausalLM, beta: float) -> Tensor:
    """TAR: β times the mean square of the differences of successive outputs before dropout (Merity et al. 2017)."""
    return beta * _mean_square(output[1:] - output[:-1])


def l2(output: Tensor, dropped_output: Tensor, model: CausalLM, weight: float) -> Tensor:
    """L2: `weight` times the sum of all squared weights; unlike decoupled decay it passes through clipping and Adam."""
    return weight * torch.stack([each.to(torch.float32).square().sum() for each in model.parameters()]).sum()


def _mean_square(values: Tensor) -> Tensor:
    """The mean in at least fp32; zero if there are no values, as for TAR in a window of one step."""
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    return values.square().sum() / max(values.numel(), 1)
