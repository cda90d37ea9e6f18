"""The state of a core: a tensor or a nested tuple of tensors, handled alike whatever the core."""

from collections.abc import Callable
from typing import Any, TypeAlias

from torch import Tensor

State: TypeAlias = Any  # Tensor | tuple[State, ...]: which of them, only the core that made it knows


def map_state(function: Callable[[Tensor], Tensor], state: State) -> State:
    """Apply `function` to every tensor of a state: `map_state(Tensor.detach, state)`."""
    if isinstance(state, Tensor):
        return function(state)
    return tuple(map_state(function, part) for part in state)
