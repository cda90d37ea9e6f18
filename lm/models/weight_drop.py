"""AWD-LSTM's core: recurrent layers whose hidden-to-hidden weights are dropped (Merity, Keskar and Socher 2018)."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.func import functional_call

from lm.config.checks import at_least, one_of, probability
from lm.models.recurrent import CELLS, fastest_kernels, zero_state
from lm.models.stacked import RecurrentLayer, StackedCore
from lm.models.state import State
from lm.ops import Dropout

RECURRENT_WEIGHT = "weight_hh_l0"  # torch's name of a layer's hidden-to-hidden weights


class WeightDropCore(StackedCore):
    """Recurrent layers with DropConnect (Wan et al. 2013) on their hidden-to-hidden weights.

    Args:
        input_size: E, the size of the embedded tokens.
        cell: a key of CELLS.
        hidden_size: of the layers but the last one.
        num_layers: the number of layers.
        dropout: the dropout probability between the layers.
        input_dropout: that of the embedded tokens; None means `dropout`.
        weight_dropout: the dropout probability of the hidden-to-hidden weights.
        locked_dropout: whether a mask is drawn once for all steps of a window.
        last_size: H, the size of the last layer, such as E to tie weights; None means `hidden_size`.
    """

    def __init__(
        self,
        input_size: int,
        cell: str,
        hidden_size: int,
        num_layers: int,
        dropout: float,
        input_dropout: float | None = None,
        weight_dropout: float = 0.0,
        locked_dropout: bool = True,
        last_size: int | None = None,
    ) -> None:
        one_of(CELLS, cell=cell)
        at_least(1, hidden_size=hidden_size, num_layers=num_layers, last_size=last_size)
        probability(weight_dropout=weight_dropout)
        last_size = hidden_size if last_size is None else last_size
        sizes = [input_size, *[hidden_size] * (num_layers - 1), last_size]
        layers = [WeightDropLayer(CELLS[cell], sizes[i], sizes[i + 1], weight_dropout) for i in range(num_layers)]
        super().__init__(layers, dropout, input_dropout, locked_dropout)


class WeightDropLayer(RecurrentLayer):
    """A layer of torch's own, called with a dropped copy of its hidden-to-hidden weights.

    One mask holds for all steps of a window. The layer keeps torch's fused kernels, its weights and their names.
    """

    def __init__(
        self, cell: Callable[..., nn.RNNBase], input_size: int, output_size: int, weight_dropout: float
    ) -> None:
        super().__init__(output_size=output_size)
        self.rnn = cell(input_size, output_size)
        self.weight_dropout = Dropout(weight_dropout)

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        with fastest_kernels(inputs):
            if not self.training or not self.weight_dropout.p:
                return self.rnn(inputs, state)
            dropped = {RECURRENT_WEIGHT: self.weight_dropout(getattr(self.rnn, RECURRENT_WEIGHT))}
            return functional_call(self.rnn, dropped, (inputs, state))

    def initial_state(self, batch_size: int) -> State:
        """Zeros `[1, B, O]`; for an LSTM a pair, hidden and cell."""
        return zero_state(self.rnn, batch_size)
