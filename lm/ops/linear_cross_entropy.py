"""The loss of a large output layer, in blocks of the vocabulary, so that no [N, V] logits are materialised in fp32."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK = 1024  # words in a block: their logits for 700 positions are 3 MB in fp32, about what a CPU's cache holds
IGNORE_INDEX = -100  # a padded target; torch's default ignore_index


def linear_cross_entropy(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, block: int = BLOCK) -> Tensor:
    """The negative log-likelihood in nats of each target: `[N, H]`, `[V, H]`, `[V]`, `[N]` → `[N]`.

    Matrix products are in the precision of autocast where it is on, sums and the loss in fp32 (or fp64 for fp64).
    The loss of a target IGNORE_INDEX is zero. With 16-bit products the exponentials, `[N, V]` in 16 bits, are kept for
    the backward pass; otherwise they are recomputed there.

    The softmax of a block is exp(logits - m) with the block's own maxima m; over all blocks it lacks only one
    factor per row, exp(m - log-sum-exp). The backward pass puts that factor into the rows of `hidden` instead, so that
    the gradients are matrix products of what the forward pass kept. Blocks with a running log-sum-exp are those of
    online softmax (Milakov and Gimelshein 2018) and of Cut Cross-Entropy (Wijmans et al. 2024).
    """
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    with torch.autocast(device, enabled=False):
        backward_follows = torch.is_grad_enabled() and any(t.requires_grad for t in (hidden, weight, bias))
        return _LinearCrossEntropy.apply(hidden, weight, bias, targets, block, dtype, backward_follows)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor,
        targets: Tensor,
        block: int,
        dtype: torch.dtype,
        backward_follows: bool,
    ) -> Tensor:
        ctx.block, ctx.dtypes = block, (hidden.dtype, weight.dtype, bias.dtype)
        sum_dtype = torch.promote_types(dtype, torch.float32)
        # the bias is one more feature, so that the matrix products include it and its gradient
        features = _with_column(hidden, 1, dtype)
        matrix = _with_column(weight, bias, dtype)
        # 1. the maximum and the sum of exponentials of each block, for each position
        maxima, sums, kept = [], [], []
        for words in _blocks(matrix, block):
            exps = (features @ matrix[words].T).to(sum_dtype)
            maxima.append(exps.amax(1))
            exps.sub_(maxima[-1][:, None]).exp_()
            sums.append(exps.sum(1))
            if backward_follows and dtype.itemsize == 2:
                kept.append(exps.to(dtype))
        # 2. their log-sum-exp over all blocks, and the targets' own logits
        log_sum_exp = (torch.stack(maxima) + torch.stack(sums).log()).logsumexp(0)
        scored = targets != IGNORE_INDEX
        targets = targets.where(scored, 0)
        target_logits = (features.to(sum_dtype) * matrix[targets]).sum(1)
        if backward_follows:
            ctx.save_for_backward(features, matrix, targets, scored, torch.stack(maxima), log_sum_exp, *kept)
        return (log_sum_exp - target_logits).where(scored, 0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        features, matrix, targets, scored, maxima, log_sum_exp, *kept = ctx.saved_tensors
        grad = grad.where(scored, 0)[:, None]
        hidden_dtype, weight_dtype, bias_dtype = ctx.dtypes
        # the gradient of the logits is softmax - one_hot(target): 1. the target's part
        grad_features = -grad * matrix[targets]
        grad_weight = matrix.new_empty(len(matrix), matrix.size(1) - 1, dtype=grad.dtype)
        grad_bias = matrix.new_empty(len(matrix), dtype=grad.dtype)
        # 2. the softmax's part, block by block
        for i, words in enumerate(_blocks(matrix, ctx.block)):
            exps = kept[i] if kept else (features @ matrix[words].T).sub_(maxima[i][:, None]).exp_()
            scale = grad * (maxima[i] - log_sum_exp).exp()[:, None]
            grad_features.addcmul_((exps @ matrix[words]).to(grad.dtype), scale)
            grad_matrix = exps.T @ (features * scale).to(features.dtype)
            grad_weight[words], grad_bias[words] = grad_matrix[:, :-1], grad_matrix[:, -1]
        # 3. the target's part of the weights' gradient, after the blocks have written theirs
        grad_weight.index_add_(0, targets, features[:, :-1] * grad, alpha=-1)
        grad_bias.index_add_(0, targets, grad.squeeze(1), alpha=-1)
        gradients = grad_features[:, :-1].to(hidden_dtype), grad_weight.to(weight_dtype), grad_bias.to(bias_dtype)
        return *gradients, None, None, None, None


def _blocks(matrix: Tensor, block: int) -> Iterator[slice]:
    return (slice(start, start + block) for start in range(0, len(matrix), block))


def _with_column(matrix: Tensor, column: Tensor | int, dtype: torch.dtype) -> Tensor:
    """`[N, H]` and a last column, `[N, H + 1]`, in `dtype`."""
    wider = matrix.new_empty(len(matrix), matrix.size(1) + 1, dtype=dtype)
    wider[:, :-1], wider[:, -1] = matrix, column
    return wider
