"""The loss of a large output layer, in blocks of the vocabulary: logits in fp32 exist for one block at a time."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

BLOCK = 1024  # words in a block: their logits for 700 positions are 3 MB in fp32, about what a CPU's cache holds
BYTES = 16  # of temporaries per logit of a block: logits and probabilities in fp32, each also before or after rounding
GPU_SHARE = 8  # those of a block may take one eighth of a GPU's memory
MULTIPLE = 16  # pad the columns of a product to a multiple of the vector registers' length: 201 are slower than 208
IGNORE_INDEX = -100  # a padded target; torch's default ignore_index


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, block: int | None = None
) -> Tensor:
    """The negative log-likelihood in nats of each target: `[N, H]`, `[V, H]`, `[V]`, `[N]` → `[N]`.

    Matrix products are in the precision of autocast where it is on, sums and the loss in fp32 (or fp64 for fp64); but
    where a backward pass follows 16-bit products, so are probabilities, which rounds the loss by up to 2^-9 nats in
    bfloat16. The loss of a target IGNORE_INDEX is zero. For the backward pass probabilities are kept, `[N, V]` in the
    precision of the products, and under autocast the rounded `weight`, but no logits.

    In 16 bits the logits in the log-sum-exp are rounded, the target's is not: the loss of a nearly certain token may be
    a few hundredths of a nat below 0.

    The softmax of all words is that of a block times one factor per row, exp(log-sum-exp of the block - log-sum-exp of
    all). The backward pass puts that factor into the rows of `hidden` instead of the probabilities, so that it consists
    of matrix products of what the forward pass kept. Blocks whose log-sum-exps are combined are those of online softmax
    (Milakov and Gimelshein 2018) and of Cut Cross-Entropy (Wijmans et al. 2024). `block` is the number of words in one;
    None suits the device.
    """
    block = block or words_per_block(len(hidden), hidden.device)
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    with torch.autocast(device, enabled=False):
        backward_follows = torch.is_grad_enabled() and any(t.requires_grad for t in (hidden, weight, bias))
        return _LinearCrossEntropy.apply(hidden, weight, bias, targets, block, dtype, backward_follows)


def words_per_block(positions: int, device: torch.device) -> int:
    """A block that a CPU's cache holds; on a GPU, whose kernels should be few, as many words as its memory allows.

    It depends on all of the memory, not on what is free: blocks decide on the rounding, and a resumed run has to repeat
    that of an uninterrupted one.
    """
    if device.type != "cuda":
        return BLOCK
    memory = torch.cuda.get_device_properties(device).total_memory
    blocks = memory // (GPU_SHARE * BYTES * BLOCK * max(positions, 1))
    return BLOCK * max(blocks, 1)


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
        features, matrix, biases = hidden.to(dtype), weight.to(dtype), bias.to(dtype)
        # 1. the softmax of each block, and its log-sum-exp: the largest logit minus the log of that one's probability
        kept, log_sum_exps = [], []
        for words in _blocks(matrix, block):
            logits = F.linear(features, matrix[words], biases[words])
            if not backward_follows:  # which takes 16 bits; rounded from fp32 they would take twice the time
                logits = logits.to(sum_dtype)
            probs = logits.softmax(1)
            log_sum_exps.append(logits.amax(1).to(sum_dtype) - probs.amax(1).to(sum_dtype).log())
            if backward_follows:
                kept.append(probs)
        # 2. the log-sum-exp of all blocks, and the targets' own logits
        of_blocks = torch.stack(log_sum_exps)
        log_sum_exp = of_blocks.logsumexp(0)
        scored = targets != IGNORE_INDEX
        targets = targets.where(scored, 0)
        target_logits = (features.to(sum_dtype) * matrix[targets]).sum(1) + biases[targets]
        if backward_follows:
            scales = (of_blocks - log_sum_exp).exp()
            ctx.save_for_backward(features, matrix, targets, scored, scales, *kept)
        return (log_sum_exp - target_logits).where(scored, 0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        features, matrix, targets, scored, scales, *kept = ctx.saved_tensors
        grad = grad.where(scored, 0)[:, None]
        hidden_dtype, weight_dtype, bias_dtype = ctx.dtypes
        size = features.size(1)
        # the gradient of the logits is softmax - one_hot(target): 1. the target's part
        grad_features = -grad * matrix[targets]
        grad_weight = grad.new_empty(matrix.shape)
        grad_bias = grad.new_empty(len(matrix))
        # 2. the softmax's part, block by block; for the bias, the features have a column of ones
        with_ones = F.pad(F.pad(features, (0, 1), value=1), (0, -(size + 1) % MULTIPLE))
        for words, probs, scale in zip(_blocks(matrix, ctx.block), kept, scales.unsqueeze(2) * grad, strict=True):
            grad_features.addcmul_((probs @ matrix[words]).to(grad.dtype), scale)
            grad_matrix = probs.T @ (with_ones * scale).to(probs.dtype)
            grad_weight[words], grad_bias[words] = grad_matrix[:, :size], grad_matrix[:, size]
        # 3. the target's part of the weights' gradient, after the blocks have written theirs
        grad_weight.index_add_(0, targets, features * grad, alpha=-1)
        grad_bias.index_add_(0, targets, grad.squeeze(1), alpha=-1)
        gradients = grad_features.to(hidden_dtype), grad_weight.to(weight_dtype), grad_bias.to(bias_dtype)
        return *gradients, None, None, None, None


def _blocks(matrix: Tensor, block: int) -> Iterator[slice]:
    return (slice(start, start + block) for start in range(0, len(matrix), block))
