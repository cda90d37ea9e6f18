"""Cores made of recurrent layers that are modules of their own, with dropout before and between them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from lm.config.checks import probability
from lm.models.core import Core
from lm.models.state import State
from lm.ops import make_dropout


class RecurrentLayer(nn.Module, ABC):
    """One layer of a StackedCore.

    Args:
        output_size: O, the size of its outputs.
    """

    def __init__(self, *, output_size: int) -> None:
        super().__init__()
        self.output_size = output_size

    @abstractmethod
    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """Map `[T, B, I]` to `[T, B, O]`, and the state to that after the last step."""

    @abstractmethod
    def initial_state(self, batch_size: int) -> State:
        """Zeros with the batch in dimension 1, `[…, B, …]`, or a tuple of such tensors."""


class StackedCore(Core):
    """Recurrent layers, one upon the other; its state is the tuple of theirs.

    Args:
        layers: at least one.
        dropout: the dropout probability between the layers.
        input_dropout: that of the embedded tokens; None means `dropout`.
        locked_dropout: whether a mask is drawn once for all steps of a window (Gal and Ghahramani 2016).
        skip_connections: whether a layer's input is added to its output where both are of one size.
    """

    layers: Sequence[RecurrentLayer]

    def __init__(
        self,
        layers: Sequence[RecurrentLayer],
        dropout: float,
        input_dropout: float | None = None,
        locked_dropout: bool = False,
        skip_connections: bool = False,
    ) -> None:
        super().__init__(output_size=layers[-1].output_size, batch_dim=1)
        input_dropout = dropout if input_dropout is None else input_dropout
        probability(dropout=dropout, input_dropout=input_dropout)
        self.input_dropout = make_dropout(input_dropout, locked_dropout)
        self.dropout = make_dropout(dropout, locked_dropout)
        self.skip_connections = skip_connections
        self.layers = nn.ModuleList(layers)  # type: ignore[assignment]

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        features, next_state = self.input_dropout(inputs), []
        for i, (layer, layer_state) in enumerate(zip(self.layers, state, strict=True)):
            layer_inputs = self.dropout(features) if i else features
            features, layer_state = layer(layer_inputs, layer_state)
            if self.skip_connections and features.shape == layer_inputs.shape:
                features = features + layer_inputs
            next_state.append(layer_state)
        return features, tuple(next_state)

    def initial_state(self, batch_size: int) -> State:
        """Zeros, as the layers define them."""
        return tuple(layer.initial_state(batch_size) for layer in self.layers)
