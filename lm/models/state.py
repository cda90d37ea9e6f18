"""The state of a core: a tensor or a nested tuple of tensors, handled alike for every core."""

from collections.abc import Callable
from typing import Any, TypeAlias

from torch import Tensor

State: TypeAlias = Any  # Tensor | tuple[State, ...], as the core defines it


def map_state(function: Callable[..., Any], *states: State) -> State:
    """Apply `function` to every tensor of a state, or to corresponding tensors of several states."""
    if isinstance(states[0], Tensor):
        return function(*states)
    return tuple(map_state(function, *parts) for parts in zip(*states, strict=True))
