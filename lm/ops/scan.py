"""A loop over time steps, which an export traces as one operator."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def scan(step: Callable[..., tuple[Any, Tensor]], state: Any, *inputs: Tensor) -> tuple[Any, Tensor]:
    """Apply `step(state, *inputs[t])`, which gives the next state and an output, to each time step.

    Returns:
        The last state and the outputs `[T, …]`.
    """
    if torch.compiler.is_exporting():  # a Python loop would be traced for one length; in training torch's scan is slow
        from torch._higher_order_ops.scan import scan as torch_scan

        def pure_step(state: Any, step_inputs: tuple[Tensor, ...]) -> tuple[Any, Tensor]:
            state, output = step(state, *step_inputs)
            return state, output.clone()

        return torch_scan(pure_step, state, inputs)
    outputs = []
    for step_inputs in zip(*inputs, strict=True):
        state, output = step(state, *step_inputs)
        outputs.append(output)
    return state, torch.stack(outputs)
