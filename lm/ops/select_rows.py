"""Some rows of a matrix, with a gradient that is one copy into zeros."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def select_rows(matrix: Tensor, rows: Tensor) -> Tensor:
    """`matrix[rows]` for distinct rows: `[V, …]`, `[n]` → `[n, …]`.

    Since no row comes twice, the gradient needs none of the sums of indexing's backward pass; it is exactly zero in
    the other rows.
    """
    return _SelectRows.apply(matrix, rows)


class _SelectRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.shape = matrix.shape
        return matrix.index_select(0, rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        [rows] = ctx.saved_tensors
        return grad.new_zeros(ctx.shape).index_copy_(0, rows, grad), None
