"""The interface of every core; no code outside a core depends on its kind."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from lm.models.state import State, map_state


def core_name(config: Mapping[str, Any]) -> str:
    """What people call the core of a config: its cell, such as lstm, or the name of its class."""
    return config.get("cell") or config["_target_"].rpartition(".")[2]


class Core(nn.Module, ABC):
    """Maps embedded tokens and a state to outputs and the next state.

    Args:
        output_size: H, the size of the outputs.
        batch_dim: the batch dimension of the state's tensors.
        context: the context length that the core is trained for; None means unbounded.
    """

    def __init__(self, *, output_size: int, batch_dim: int, context: int | None = None) -> None:
        super().__init__()
        self.output_size, self.batch_dim, self.context = output_size, batch_dim, context

    @abstractmethod
    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """Map `[T, B, E]` to outputs `[T, B, H]` and the state after the last step."""

    @abstractmethod
    def initial_state(self, batch_size: int) -> State:
        """The state before the first token: tensors of zeros, or of length zero. Exported files rely on it."""

    def carry(self, state: State) -> State:
        """The state that the next BPTT window starts from: the same values, detached from this window's graph."""
        return map_state(Tensor.detach, state)
