"""The recurrence of cores whose gates do not depend on the state: one elementwise operation per time step."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lm.ops.scan import scan


def linear_recurrence(decay: Tensor, inputs: Tensor, state: Tensor) -> Tensor:
    """h_t = decay_t ⊙ h_{t-1} + inputs_t, with the state `[B, H]` as h_0: h_1 … h_T, `[T, B, H]`, in its precision.

    A scan in log space would take as many exponentials and logarithms as there are numbers, and can overflow; this
    is one multiplication and addition each, forwards and backwards, as autograd records none of the steps.
    """
    decay, inputs = decay.to(state.dtype), inputs.to(state.dtype)
    if torch.compiler.is_exporting():
        return scan(_step, state, decay, inputs)[1]
    return _LinearRecurrence.apply(decay, inputs, state)


def _step(hidden: Tensor, decay: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
    hidden = decay * hidden + inputs
    return hidden, hidden


class _LinearRecurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, decay: Tensor, inputs: Tensor, state: Tensor) -> Tensor:
        hidden = inputs.clone()
        steps = hidden.unbind()
        for step, step_decay, before in zip(steps, decay.unbind(), (state, *steps[:-1]), strict=True):
            step.addcmul_(step_decay, before)
        ctx.save_for_backward(decay, hidden, state)
        return hidden

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        decay, hidden, state = ctx.saved_tensors
        # the gradient is the same recurrence, backwards in time: g_t = ∂L/∂h_t + decay_{t+1} ⊙ g_{t+1}
        grad = grad_hidden.clone()
        steps, decays = grad.unbind()[::-1], decay.unbind()[:0:-1]
        for step, later_decay, later in zip(steps[1:], decays, steps[:-1], strict=True):
            step.addcmul_(later_decay, later)
        before = torch.cat([state[None], hidden[:-1]])
        return grad * before, grad, grad[0] * decay[0]
