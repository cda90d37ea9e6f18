"""RMSNorm whose gradient is its closed form: on a CPU torch composes both passes of a dozen operators."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def rms_norm(features: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Divide by the root mean square: x / √(mean x² + `eps`) ⊙ w (Zhang and Sennrich 2019), in the precision of x.

    Args:
        features: x, `[…, H]`.
        weight: w, `[H]`.
        eps: keeps the divisor from zero.
    """
    if features.is_cpu and torch.is_grad_enabled() and not torch.compiler.is_exporting():
        return _RMSNorm.apply(features, weight, eps)
    return F.rms_norm(features, weight.shape, weight.to(features.dtype), eps)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, eps: float) -> Tensor:
        accumulated = torch.promote_types(features.dtype, torch.float32)
        norm = torch.linalg.vector_norm(features, dim=-1, keepdim=True, dtype=accumulated)
        scale = torch.rsqrt(norm.square() / features.size(-1) + eps).to(features.dtype)
        ctx.save_for_backward(features, weight, scale)
        return features * scale * weight.to(features.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        features, weight, scale = ctx.saved_tensors
        normalized = features * scale
        weighted = grad * weight.to(grad.dtype)
        along = (weighted * normalized).mean(-1, keepdim=True)
        accumulated = torch.promote_types(grad.dtype, torch.float32)
        weight_grad = (grad * normalized).flatten(end_dim=-2).sum(0, dtype=accumulated)
        return (weighted - normalized * along) * scale, weight_grad.to(weight.dtype), None
