"""Scaled dot-product attention that trains faster on a CPU than torch's."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from lm.ops.dropout import Dropout


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, dropout: Dropout) -> Tensor:
    """softmax(Q Kᵀ / √D + mask) V, with dropout of the weights (Vaswani et al. 2017): `[B, heads, T, D]`.

    Where gradients are needed on a CPU, plain products take a third to a half of the time of torch's fused function,
    which draws 64 random bits for each weight, and whose backward pass is slow with a mask.

    Args:
        query: Q, `[B, heads, T, D]`.
        key: K, `[B, heads, S, D]`.
        value: V, `[B, heads, S, D]`.
        mask: added to the scores; broadcasts to `[B, heads, T, S]`.
        dropout: of the attention weights.
    """
    if query.is_cpu and torch.is_grad_enabled() and not torch.compiler.is_exporting():
        return dropout(attention_weights(query, key, mask).to(value.dtype)) @ value
    p = dropout.p if dropout.training else 0.0
    return F.scaled_dot_product_attention(query, key, value, mask.to(query.dtype), p)


def attention_weights(query: Tensor, key: Tensor, mask: Tensor) -> Tensor:
    """softmax(Q Kᵀ / √D + mask), `[B, heads, T, S]`; rows sum to 1."""
    return (query / math.sqrt(query.size(-1)) @ key.mT + mask).softmax(-1)
