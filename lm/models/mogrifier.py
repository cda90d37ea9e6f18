"""The Mogrifier LSTM (Melis et al. 2020): before each step, input and hidden state gate each other in turn."""

import torch
from torch import Tensor, nn

from lm.config.checks import at_least, probability
from lm.models.stacked import RecurrentLayer, StackedCore
from lm.models.state import State
from lm.ops import LockedDropout, scan


class MogrifierCore(StackedCore):
    """Stacked Mogrifier LSTM layers.

    Args:
        input_size: E, the size of the embedded tokens.
        hidden_size: H.
        num_layers: L, the number of layers.
        dropout: see `StackedCore`, as for the three that follow.
        input_dropout: that of the embedded tokens.
        locked_dropout: one mask for all steps.
        skip_connections: around layers.
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
        self.rounds = nn.ModuleList(mogrifier(*sizes[i % 2], rank) for i in range(rounds))

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        rounds, weight, bias = self._matrices(inputs.device.type)
        mask = self.state_dropout(torch.ones_like(state[0]))[0] if self.training and self.state_dropout.p else None
        if not rounds:  # the inputs' product does not depend on the state
            inputs = inputs @ weight[: self.input_size] + bias

        def step(state: State, inputs: Tensor) -> tuple[State, Tensor]:
            hidden, cell = state
            if mask is not None:
                hidden = hidden * mask
            for i, (matrices, round_bias) in enumerate(rounds):
                if i % 2 == 0:
                    inputs = inputs * product(hidden, matrices, round_bias).sigmoid()
                else:
                    hidden = hidden * product(inputs, matrices, round_bias).sigmoid()
            if rounds:
                gates = torch.addmm(bias, torch.cat([inputs, hidden], dim=1), weight)
            else:
                gates = torch.addmm(inputs, hidden, weight[self.input_size :])
            return self._lstm_step(gates, cell)

        (hidden, cell), outputs = scan(step, (state[0][0], state[1][0]), inputs)
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

    def _matrices(self, device: str) -> tuple[list[tuple[list[Tensor], Tensor]], Tensor, Tensor]:
        """Each round's matrices and bias, and the gates', in the precision of products.

        They absorb the factors 2 of the rounds before, which spares each step these multiplications.
        """
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else self.gates.weight.dtype
        rounds = []
        for i, layers in enumerate(self.rounds):
            first, *others = [layer.weight.T.to(dtype) for layer in layers]
            rounds.append(([first * 2 ** ((i + 1) // 2), *others], layers[-1].bias.to(dtype)))
        count, sizes = len(rounds), [self.input_size, self.output_size]
        of_inputs, of_hidden = self.gates.weight.T.to(dtype).split(sizes)
        weight = torch.cat([of_inputs * 2 ** ((count + 1) // 2), of_hidden * 2 ** (count // 2)])
        return rounds, weight, self.gates.bias.to(dtype)


def mogrifier(input_size: int, output_size: int, rank: int | None) -> nn.Sequential:
    """The linear map of one round, of full rank or a product of two; its bias is zero at first."""
    last = nn.Linear(input_size if rank is None else rank, output_size)
    nn.init.zeros_(last.bias)
    return nn.Sequential(last) if rank is None else nn.Sequential(nn.Linear(input_size, rank, bias=False), last)


def product(rows: Tensor, matrices: list[Tensor], bias: Tensor) -> Tensor:
    """`[B, I]` through the matrices `[I, …]`, …, `[…, O]` to `[B, O]`."""
    for matrix in matrices[:-1]:
        rows = rows @ matrix
    return torch.addmm(bias, rows, matrices[-1])
