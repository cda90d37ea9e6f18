"""Recurrent cores against torch's own layers and against the equations written out."""

import pytest
import torch
from torch import nn

from lm.errors import UserError
from lm.models import RecurrentCore
from tests.conftest import RECURRENT, make_core

TORCH = {
    "rnn_tanh": lambda: nn.RNN(5, 12, 2, nonlinearity="tanh"),
    "rnn_relu": lambda: nn.RNN(5, 12, 2, nonlinearity="relu"),
    "lstm": lambda: nn.LSTM(5, 12, 2),
    "gru": lambda: nn.GRU(5, 12, 2),
}


@pytest.mark.parametrize("name", RECURRENT)
def test_equals_torchs_own_layer(name):
    core, theirs = make_core(name)(5), TORCH[name]()
    theirs.load_state_dict(core.layers.state_dict())
    inputs = torch.randn(7, 3, 5)
    outputs, _ = core(inputs, core.initial_state(3))
    assert torch.equal(outputs, theirs(inputs)[0])


def test_lstm_equals_the_equations_step_by_step():
    core = RecurrentCore(3, "lstm", hidden_size=4, num_layers=1, dropout=0.0)
    weights = core.layers
    inputs = torch.randn(6, 2, 3)
    outputs, (last_hidden, last_cell) = core(inputs, core.initial_state(2))
    hidden = cell = torch.zeros(2, 4)
    for step, output in zip(inputs, outputs, strict=True):
        gates = (
            step @ weights.weight_ih_l0.T + weights.bias_ih_l0 + hidden @ weights.weight_hh_l0.T + weights.bias_hh_l0
        )
        i, f, g, o = gates.chunk(4, dim=1)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        hidden = o.sigmoid() * cell.tanh()
        torch.testing.assert_close(output, hidden)
    torch.testing.assert_close((last_hidden[0], last_cell[0]), (hidden, cell))


def test_carry_keeps_the_numbers():
    core = make_core("lstm")(5)
    _, state = core(torch.randn(7, 3, 5), core.initial_state(3))
    for carried, kept in zip(core.carry(state), state, strict=True):
        assert torch.equal(carried, kept)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cell": "elman"}, "cell=elman given, but it must be one of rnn_tanh, rnn_relu, lstm, gru"),
        ({"hidden_size": 0}, "hidden_size=0 given, but it must be at least 1"),
        ({"num_layers": -1}, "num_layers=-1"),
        ({"dropout": 1.0}, "dropout=1.0 given, but it must be at least 0 and below 1"),
    ],
)
def test_values_out_of_range_are_refused(wrong, message):
    right = {"cell": "lstm", "hidden_size": 4, "num_layers": 1, "dropout": 0.0}
    with pytest.raises(UserError, match=message):
        RecurrentCore(3, **right | wrong)
