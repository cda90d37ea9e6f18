"""Penalties that are added to the training loss, but not to the reported one.

A regulariser is called with a training window's outputs and the model, whose weights it may use; it returns a scalar,
in nats per token as the loss. It is called once before training, on the meta device, so that its own checks run.
"""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lm.models import CausalLM, TrainingOutputs

Regularizer: TypeAlias = Callable[[TrainingOutputs, CausalLM], Tensor]


def activation_regularization(outputs: TrainingOutputs, model: CausalLM, alpha: float) -> Tensor:
    """AR: α times the mean square of the outputs after dropout (Merity et al. 2017, arXiv:1708.01009)."""
    return alpha * _mean_square(outputs.dropped)


def temporal_activation_regularization(outputs: TrainingOutputs, model: CausalLM, beta: float) -> Tensor:
    """TAR: β times the mean square of the differences of successive outputs before dropout (Merity et al. 2017)."""
    return beta * _mean_square(outputs.hidden[1:] - outputs.hidden[:-1])


def l2(outputs: TrainingOutputs, model: CausalLM, weight: float) -> Tensor:
    """L2: `weight` times the sum of all squared weights; unlike decoupled decay it passes through clipping and Adam."""
    return weight * torch.stack([each.to(torch.float32).square().sum() for each in model.parameters()]).sum()


def label_smoothing(outputs: TrainingOutputs, model: CausalLM, epsilon: float) -> Tensor:
    """ε times the cross-entropy with the uniform distribution minus the nll (Szegedy et al. 2016, arXiv:1512.00567).

    Added to the nll it gives the loss of smoothed targets, (1 - ε) nll + ε uniform cross-entropy. In the difference the
    partition function cancels: what is left is the target's logit minus the mean logit.
    """
    features, layer = model.head.logit_layer(outputs.dropped)
    mean_logits = _products(features, layer.weight.mean(0)) + layer.bias.mean()
    return epsilon * (_target_logits(features, layer, outputs.targets) - mean_logits).mean()


def z_loss(outputs: TrainingOutputs, model: CausalLM, coefficient: float) -> Tensor:
    """The coefficient times the mean of log² Z of the partition function Z (Devlin et al. 2014; PaLM 2022)."""
    features, layer = model.head.logit_layer(outputs.dropped)
    return coefficient * _mean_square(outputs.nll + _target_logits(features, layer, outputs.targets))


def _target_logits(features: Tensor, layer: nn.Linear, targets: Tensor) -> Tensor:
    return _products(features, F.embedding(targets, layer.weight)) + layer.bias[targets]


def _products(features: Tensor, rows: Tensor) -> Tensor:
    """Dot products in at least fp32: `[T, B, E]`, `[…, E]` → `[T, B]`."""
    return (_at_least_fp32(features) * rows).sum(-1)


def _mean_square(values: Tensor) -> Tensor:
    """The mean in at least fp32; zero if there are no values, as for TAR in a window of one step."""
    return _at_least_fp32(values).square().sum() / max(values.numel(), 1)


def _at_least_fp32(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))
