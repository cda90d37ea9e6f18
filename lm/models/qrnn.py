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
        dropout: the dropout probability between the layers.
        input_dropout: that of the embedded tokens; None means `dropout`.
        locked_dropout: whether a mask is drawn once for all steps of a window.
        skip_connections: whether a layer's input is added to its output where both are of one size.
        kernel_size: the number of a layer's last inputs that each step reads: the width of its convolution.
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
        kernel_size: int = 2,
    ) -> None:
        at_least(1, hidden_size=hidden_size, num_layers=num_layers, kernel_size=kernel_size)
        layers = [QRNNLayer(hidden_size if i else input_size, hidden_size, kernel_size) for i in range(num_layers)]
        super().__init__(layers, dropout, input_dropout, locked_dropout, skip_connections)


class QRNNLayer(RecurrentLayer):
    """c_t = f_t ⊙ c_{t-1} + (1 - f_t) ⊙ z_t and h_t = o_t ⊙ c_t (fo-pooling).

    The candidate z and the gates f and o are computed from the last `kernel_size` inputs.

    The state is c, `[1, B, H]`, and the last inputs, `[kernel_size - 1, B, I]`.
    """

    def __init__(self, input_size: int, hidden_size: int, kernel_size: int) -> None:
        super().__init__(output_size=hidden_size)
        self.input_size, self.kernel_size = input_size, kernel_size
        self.gates = nn.Linear(kernel_size * input_size, 3 * hidden_size)

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        cell, last_inputs = state
        steps = inputs.size(0)
        # 1. candidate, forget and output gates of all steps at once
        extended = torch.cat([last_inputs, inputs])
        windows = torch.cat([extended[i : i + steps] for i in range(self.kernel_size)], dim=-1)
        candidate, forget, output = self.gates(windows).chunk(3, dim=-1)
        forget = forget.sigmoid()
        # 2. the recurrence
        cells = linear_recurrence(forget, (1 - forget) * candidate.tanh(), cell[0])
        return output.sigmoid() * cells, (cells[-1:], extended[steps:])

    def initial_state(self, batch_size: int) -> State:
        """Zeros: no cell, and no inputs."""
        zeros = self.gates.weight.new_zeros
        return zeros(1, batch_size, self.output_size), zeros(self.kernel_size - 1, batch_size, self.input_size)
