"""The quasi-recurrent network (Bradbury et al. 2017): all products in parallel over time, then a linear recurrence."""

import torch
from torch import Tensor, nn

from lm.config.checks import at_least
from lm.models.stacked import RecurrentLayer, StackedCore
from lm.models.state import State
from lm.ops import linear_recurrence


class QRNNCore(StackedCore):
    """Stacked QRNN layers.

    Args:
        input_size: E, the size of the embedded tokens.
        hidden_size: H.
        num_layers: L, the number of layers.
        dropout: see `StackedCore`, as for the three that follow.
        input_dropout: that of the embedded tokens.
        locked_dropout: one mask for all steps.
        skip_connections: around layers.
        window: the number of a layer's last inputs that each step reads: the width of its convolution.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        dropout: float,
        input_dropout: float | None = None,
        locked_dropout: bool = False,
        skip_connections: bool = False,
        window: int = 2,
    ) -> None:
        at_least(1, hidden_size=hidden_size, num_layers=num_layers, window=window)
        layers = [QRNNLayer(hidden_size if i else input_size, hidden_size, window) for i in range(num_layers)]
        super().__init__(layers, dropout, input_dropout, locked_dropout, skip_connections)


class QRNNLayer(RecurrentLayer):
    """c_t = f_t ⊙ c_{t-1} + (1 - f_t) ⊙ z_t and h_t = o_t ⊙ c_t; z, f, o are of the last `window` inputs (fo-pooling).

    The state is c, `[1, B, H]`, and the last inputs, `[window - 1, B, I]`.
    """

    def __init__(self, input_size: int, hidden_size: int, window: int) -> None:
        super().__init__(output_size=hidden_size)
        self.input_size, self.window = input_size, window
        self.gates = nn.Linear(window * input_size, 3 * hidden_size)

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        cell, last_inputs = state
        steps = inputs.size(0)
        # 1. candidate, forget and output gates of all steps at once
        extended = torch.cat([last_inputs, inputs])
        windows = torch.cat([extended[i : i + steps] for i in range(self.window)], dim=-1)
        candidate, forget, output = self.gates(windows).chunk(3, dim=-1)
        forget = forget.sigmoid()
        # 2. the recurrence
        cells = linear_recurrence(forget, (1 - forget) * candidate.tanh(), cell[0])
        return output.sigmoid() * cells, (cells[-1:], extended[steps:])

    def initial_state(self, batch_size: int) -> State:
        """Zeros: no cell, and no inputs."""
        zeros = self.gates.weight.new_zeros
        return zeros(1, batch_size, self.output_size), zeros(self.window - 1, batch_size, self.input_size)
