"""What every core offers, so that nothing outside a core asks which kind it has."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from lm.models.state import State


class Core(nn.Module, ABC):
    """Maps embedded tokens and a state to outputs and the next state.

    Attributes:
        output_size: H, the size of the outputs.
        batch_dim: which dimension of a state's tensors counts the columns.
        context: positions that it is meant to look over; None means as many as there are.
    """

    output_size: int
    batch_dim: int
    context: int | None = None

    @abstractmethod
    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """Read `[T, B, E]` from `state` on; returns the outputs `[T, B, H]` and the state after the last step."""

    @abstractmethod
    def initial_state(self, batch_size: int) -> State:
        """The state of B columns that have read nothing."""

    @abstractmethod
    def carry(self, state: State) -> State:
        """What the next BPTT window starts from, cut from the graph of this one."""
