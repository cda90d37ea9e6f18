"""A linear map within a loop over time steps, whose weight's gradient is one product of all steps."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class StepLinear:
    """x_t W + b_t for the steps of one window, called once for each in order, with `biases[t]` as b_t.

    Autograd would multiply and add a gradient of W's size at each step, which takes longer than the rest of the step.

    Args:
        weight: W, `[I, O]`.
        biases: of all steps, `[T, B, O]`.
    """

    def __init__(self, weight: Tensor, biases: Tensor) -> None:
        self.rows: list[Tensor] = []
        self.recording = torch.is_grad_enabled() and weight.requires_grad and not torch.compiler.is_exporting()
        self.biases = _WeightGradient.apply(biases, weight, self.rows) if self.recording else biases
        self.weight = weight.detach() if self.recording else weight

    def __call__(self, rows: Tensor, bias: Tensor) -> Tensor:
        """`[B, I]` and the step's of the biases, `[B, O]`, to `[B, O]`."""
        if self.recording:
            self.rows.append(rows.detach())
        return torch.addmm(bias, rows, self.weight)


class _WeightGradient(torch.autograd.Function):
    """The biases as they are; their gradient, which is that of the products, times the rows is the weight's."""

    @staticmethod
    def forward(ctx: Any, biases: Tensor, weight: Tensor, rows: list[Tensor]) -> Tensor:
        ctx.rows = rows
        return biases.view_as(biases)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        return grad, torch.cat(ctx.rows).to(grad.dtype).T @ grad.flatten(0, 1), None
