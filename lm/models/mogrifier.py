"""The Mogrifier LSTM (Melis et al. 2020): before each step, input and hidden state gate each other in turn."""

from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lm.config.checks import at_least, probability
from lm.models.stacked import RecurrentLayer, StackedCore
from lm.models.state import State
from lm.ops import LockedDropout, StepLinear, scan


class MogrifierCore(StackedCore):
    """Stacked Mogrifier LSTM layers.

    Args:
        input_size: E, the size of the embedded tokens.
        hidden_size: H.
        num_layers: L, the number of layers.
        dropout: the dropout probability between the layers.
        input_dropout: that of the embedded tokens; None means `dropout`.
        locked_dropout: whether a mask is drawn once for all steps of a window.
        skip_connections: whether a layer's input is added to its output where both are of one size.
        rounds: how often one gates the other, the input first; 0 is an LSTM.
        rank: of the matrices of these gates; None is full rank.
        cap_input_gate: whether the input gate is at most 1 - the forget gate, which keeps the cell within [-1, 1].
        state_dropout: of the hidden state that a step reads, with one mask for all steps.
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
        rounds: int = 5,
        rank: int | None = None,
        cap_input_gate: bool = False,
        state_dropout: float = 0.0,
    ) -> None:
        at_least(1, hidden_size=hidden_size, num_layers=num_layers, rank=rank)
        at_least(0, rounds=rounds)
        probability(state_dropout=state_dropout)
        sizes = [input_size] + [hidden_size] * (num_layers - 1)
        layers = [MogrifierLayer(size, hidden_size, rounds, rank, cap_input_gate, state_dropout) for size in sizes]
        super().__init__(layers, dropout, input_dropout, locked_dropout, skip_connections)


class MogrifierLayer(RecurrentLayer):
    """x ← 2σ(Q h + b) ⊙ x and h ← 2σ(R x + b) ⊙ h in turn, each round with a matrix of its own; then an LSTM's step.

    The state is h and c, `[1, B, H]` each. The biases b, not in the paper, are those of its code (deepmind/lamb).
    """

    rounds: Sequence[Sequence[nn.Linear]]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        rounds: int,
        rank: int | None,
        cap_input_gate: bool,
        state_dropout: float,
    ) -> None:
        super().__init__(output_size=hidden_size)
        self.input_size, self.cap_input_gate = input_size, cap_input_gate
        self.state_dropout = LockedDropout(state_dropout)
        self.gates = nn.Linear(input_size + hidden_size, 4 * hidden_size)  # i, f, o and the candidate
        for parameter in self.gates.parameters():
            nn.init.uniform_(parameter, -(hidden_size**-0.5), hidden_size**-0.5)  # as nn.LSTM
        sizes = (hidden_size, input_size), (input_size, hidden_size)  # of what a round reads, and of what it gates
        self.rounds = nn.ModuleList(linear_map(*sizes[i % 2], rank) for i in range(rounds))  # type: ignore[assignment]

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        rounds, gates = self._products(inputs)
        mask = self.state_dropout(torch.ones_like(state[0]))[0] if self.training and self.state_dropout.p else None

        def step(state: State, inputs: Tensor, *biases: Tensor) -> tuple[State, Tensor]:
            hidden, cell = state
            bias = iter(biases)
            if mask is not None:
                hidden = hidden * mask
            for i, products in enumerate(rounds):
                gate = inputs if i % 2 else hidden
                for product in products:
                    gate = product(gate, next(bias))
                if i % 2:
                    hidden = hidden * gate.sigmoid()
                else:
                    inputs = inputs * gate.sigmoid()
            rows = torch.cat([inputs, hidden], dim=1) if rounds else hidden
            return self._lstm_step(gates(rows, next(bias)), cell)

        biases = [product.biases for product in (*chain(*rounds), gates)]
        (hidden, cell), outputs = scan(step, (state[0][0], state[1][0]), inputs, *biases)
        return outputs, (hidden[None], cell[None])

    def initial_state(self, batch_size: int) -> State:
        """Zeros."""
        zeros = self.gates.weight.new_zeros(1, batch_size, self.output_size)
        return zeros, zeros

    def _lstm_step(self, gates: Tensor, cell: Tensor) -> tuple[State, Tensor]:
        sigmoids, candidate = gates.split([3 * self.output_size, self.output_size], dim=1)
        input_gate, forget_gate, output_gate = sigmoids.sigmoid().chunk(3, dim=1)
        if self.cap_input_gate:
            input_gate = torch.minimum(input_gate, 1 - forget_gate)
        cell = forget_gate * cell + input_gate * candidate.tanh()
        hidden = output_gate * cell.tanh()
        return (hidden, cell), hidden

    def _products(self, inputs: Tensor) -> tuple[list[list[StepLinear]], StepLinear]:
        """Those of each round and those of the gates, in the precision of products.

        Their weights absorb the factors 2 of the rounds before, which spares each step these multiplications.
        """
        device, count = inputs.device.type, len(self.rounds)
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else self.gates.weight.dtype

        def product(weight: Tensor, bias: Tensor) -> StepLinear:
            return StepLinear(weight.T.to(dtype), bias.to(dtype).expand(*inputs.shape[:2], -1))

        rounds = []
        for i, (*down, last) in enumerate(self.rounds):  # down to the rank, if there is one
            factor = 2 ** ((i + 1) // 2)  # of what this round reads
            products = [product(each.weight, last.bias.new_zeros(each.out_features)) for each in down]
            rounds.append([*products, product(last.weight * factor, last.bias)])
        of_inputs, of_hidden = self.gates.weight.split([self.input_size, self.output_size], dim=1)
        if not rounds:  # the inputs' product does not depend on the state
            return rounds, product(of_hidden, F.linear(inputs, of_inputs, self.gates.bias))
        weight = torch.cat([of_inputs * 2 ** ((count + 1) // 2), of_hidden * 2 ** (count // 2)], dim=1)
        return rounds, product(weight, self.gates.bias)


def linear_map(input_size: int, output_size: int, rank: int | None) -> nn.Sequential:
    """The linear map of one round, of full rank or a product of two; its bias is zero at first."""
    last = nn.Linear(input_size if rank is None else rank, output_size)
    nn.init.zeros_(last.bias)
    return nn.Sequential(last) if rank is None else nn.Sequential(nn.Linear(input_size, rank, bias=False), last)
