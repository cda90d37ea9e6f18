"""Recurrent cores: Elman networks, LSTM and GRU, by torch's own kernels."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn

from lm.config.checks import at_least, one_of, probability
from lm.models.core import Core
from lm.models.state import State
from lm.ops import Dropout, without_onednn

CELLS: dict[str, Callable[..., nn.RNNBase]] = {
    "rnn_tanh": partial(nn.RNN, nonlinearity="tanh"),
    "rnn_relu": partial(nn.RNN, nonlinearity="relu"),
    "lstm": nn.LSTM,
    "gru": nn.GRU,
}


class RecurrentCore(Core):
    """Stacked recurrent layers, with dropout before and between them (Zaremba et al. 2014).

    Args:
        input_size: E, the size of the embedded tokens.
        cell: a key of CELLS.
        hidden_size: H.
        num_layers: L, the number of layers.
        dropout: the dropout probability; after the last layer it is CausalLM's output_dropout.
    """

    def __init__(self, input_size: int, cell: str, hidden_size: int, num_layers: int, dropout: float) -> None:
        super().__init__(output_size=hidden_size, batch_dim=1)
        one_of(CELLS, cell=cell)
        at_least(1, hidden_size=hidden_size, num_layers=num_layers)
        probability(dropout=dropout)
        self.dropout = Dropout(dropout)
        between = dropout if num_layers > 1 else 0.0  # torch warns where there is no layer to drop between
        self.layers = CELLS[cell](input_size, hidden_size, num_layers, dropout=between)

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        with fastest_kernels(inputs):
            return self.layers(self.dropout(inputs), state)

    def initial_state(self, batch_size: int) -> State:
        """Zeros `[L, B, H]`; for an LSTM a pair, hidden and cell."""
        return zero_state(self.layers, batch_size)


def fastest_kernels(inputs: Tensor) -> AbstractContextManager[None]:
    """A context for one of torch's recurrent modules on inputs `[T, B, I]`: a single step is faster without oneDNN."""
    return without_onednn() if inputs.size(0) == 1 and not torch.is_grad_enabled() else nullcontext()


def zero_state(module: nn.RNNBase, batch_size: int) -> State:
    """The initial state of one of torch's recurrent modules: zeros `[L, B, H]`; for an LSTM a pair, hidden and cell."""
    zeros = next(module.parameters()).new_zeros(module.num_layers, batch_size, module.hidden_size)
    return (zeros, zeros) if isinstance(module, nn.LSTM) else zeros
