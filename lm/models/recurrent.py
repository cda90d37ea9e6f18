"""Recurrent cores: Elman networks, LSTM and GRU, on torch's own kernels."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import torch
from torch import Tensor, nn

from lm.config.checks import at_least, one_of, probability
from lm.models.core import Core
from lm.models.state import State, map_state
from lm.ops import without_onednn

CELLS: dict[str, Callable[..., nn.RNNBase]] = {
    "rnn_tanh": partial(nn.RNN, nonlinearity="tanh"),
    "rnn_relu": partial(nn.RNN, nonlinearity="relu"),
    "lstm": nn.LSTM,
    "gru": nn.GRU,
}


class RecurrentCore(Core):
    """Stacked recurrent layers, with dropout before, between and after them (Zaremba et al. 2014).

    Args:
        input_size: E, the size of the embedded tokens.
        cell: one of CELLS.
        hidden_size: H.
        num_layers: the number of layers, L.
        dropout: the share of features that is dropped.

    Raises:
        UserError: if a value is out of range.
    """

    batch_dim = 1

    def __init__(self, input_size: int, cell: str, hidden_size: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        one_of(CELLS, cell=cell)
        at_least(1, hidden_size=hidden_size, num_layers=num_layers)
        probability(dropout=dropout)
        self.output_size = hidden_size
        self.dropout = nn.Dropout(dropout)
        # torch warns of dropout 'between' the layers of a single one
        between = dropout if num_layers > 1 else 0.0
        self.layers = CELLS[cell](input_size, hidden_size, num_layers, dropout=between)

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """Read `[T, B, E]` from `state` on; returns the outputs `[T, B, H]` and the state after the last step."""
        one_word = inputs.size(0) == 1 and not torch.is_grad_enabled()
        with without_onednn() if one_word else nullcontext():
            outputs, state = self.layers(self.dropout(inputs), state)
        return self.dropout(outputs), state

    def initial_state(self, batch_size: int) -> State:
        """Zeros `[L, B, H]`; for an LSTM two of them, hidden and cell."""
        zeros = next(self.parameters()).new_zeros(self.layers.num_layers, batch_size, self.output_size)
        return (zeros, zeros) if isinstance(self.layers, nn.LSTM) else zeros

    def carry(self, state: State) -> State:
        """The state that the next window starts from: the same numbers, without their history."""
        return map_state(Tensor.detach, state)
