"""The state of a core: a tensor or a nested tuple of tensors, handled alike whatever the core."""

from collections.abc import Callable
from typing import Any, TypeAlias

from torch import Tensor

State: TypeAlias = Any  # Tensor | tuple[State, ...]: only the core that made it knows which


def map_state(function: Callable[..., Any], *states: State) -> State:
    """Apply `function` to every tensor of a state, or to those of several states side by side."""
    if isinstance(states[0], Tensor):
        return function(*states)
    return tuple(map_state(function, *parts) for parts in zip(*states, strict=True))
