"""The Mogrifier LSTM against nn.LSTM and against the paper's equations, written out step by step."""

import pytest
import torch
from torch import nn

from lm.errors import UserError
from lm.models import MogrifierCore
from lm.models.mogrifier import MogrifierLayer

RIGHT = {"hidden_size": 6, "num_layers": 2, "dropout": 0.0}


def plain(layer, inputs, cap_input_gate, mask=1.0):
    hidden = cell = torch.zeros(inputs.size(1), layer.output_size)
    outputs = []
    for x in inputs:
        h = hidden * mask
        for i, project in enumerate(layer.rounds, start=1):
            if i % 2:
                x = 2 * torch.sigmoid(project(h)) * x
            else:
                h = 2 * torch.sigmoid(project(x)) * h
        i, f, o, candidate = layer.gates(torch.cat([x, h], dim=1)).chunk(4, dim=1)
        i, f, o = i.sigmoid(), f.sigmoid(), o.sigmoid()
        if cap_input_gate:
            i = torch.minimum(i, 1 - f)
        cell = f * cell + i * candidate.tanh()
        hidden = o * cell.tanh()
        outputs.append(hidden)
    return torch.stack(outputs)


def assert_same(layer, outputs, exact, inputs):
    torch.testing.assert_close(outputs, exact)
    given = [inputs, *layer.parameters()]
    ours, theirs = (torch.autograd.grad(each.square().sum(), given) for each in (outputs, exact))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rounds", [0, 1, 2, 5])
@pytest.mark.parametrize(("rank", "cap_input_gate"), [(None, False), (3, True)])
def test_values_and_gradients_are_those_of_the_equations(rounds, rank, cap_input_gate):
    layer = MogrifierLayer(4, 6, rounds, rank, cap_input_gate, state_dropout=0.0)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    inputs = torch.randn(5, 2, 4, requires_grad=True)
    outputs, _ = layer(inputs, layer.initial_state(2))
    assert_same(layer, outputs, plain(layer, inputs, cap_input_gate), inputs)


def test_without_rounds_it_is_torchs_lstm():
    core, theirs = MogrifierCore(4, **RIGHT, rounds=0), nn.LSTM(4, 6, 2)
    for i, layer in enumerate(core.layers):
        order = torch.tensor([0, 1, 3, 2])  # of the gates; nn.LSTM has the candidate before the output gate
        ih, hh, b_ih, b_hh = (
            getattr(theirs, f"{kind}_l{i}").detach().view(4, 6, -1)[order].flatten(0, 1)
            for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        layer.load_state_dict({"gates.weight": torch.cat([ih, hh], dim=1), "gates.bias": (b_ih + b_hh).flatten()})
    inputs = torch.randn(5, 2, 4, requires_grad=True)
    (ours, state), (exact, exact_state) = core(inputs, core.initial_state(2)), theirs(inputs)
    torch.testing.assert_close(ours, exact)
    hidden, cell = (torch.cat(parts) for parts in zip(*state, strict=True))
    torch.testing.assert_close((hidden, cell), exact_state)
    gradients = [torch.autograd.grad(each.square().sum(), inputs)[0] for each in (ours, exact)]
    torch.testing.assert_close(*gradients)


def test_state_dropout_is_one_mask_for_all_steps_and_none_in_evaluation():
    layer = MogrifierLayer(4, 6, 2, None, False, state_dropout=0.5)
    inputs = torch.randn(5, 2, 4, requires_grad=True)
    masks = []
    layer.state_dropout.register_forward_hook(lambda _module, _given, mask: masks.append(mask))
    outputs, _ = layer(inputs, layer.initial_state(2))
    [mask] = masks
    assert mask.shape == (1, 2, 6)
    assert {*mask.unique().tolist()} == {0.0, 2.0}
    assert_same(layer, outputs, plain(layer, inputs, False, mask[0]), inputs)
    layer.eval()
    torch.testing.assert_close(layer(inputs, layer.initial_state(2))[0], plain(layer, inputs, False))


def test_a_capped_input_gate_keeps_the_cell_within_one():
    for cap_input_gate in (True, False):
        layer = MogrifierLayer(4, 6, 0, None, cap_input_gate, 0.0)
        nn.init.constant_(layer.gates.bias, 2.0)
        _, (_, cell) = layer(torch.randn(30, 2, 4), layer.initial_state(2))
        assert (cell.abs() <= 1).all() == cap_input_gate


def test_low_rank_has_fewer_parameters():
    full, low = MogrifierLayer(40, 60, 4, None, False, 0.0), MogrifierLayer(40, 60, 4, 8, False, 0.0)
    sizes = [sum(weight.numel() for weight in layer.rounds.parameters()) for layer in (full, low)]
    assert sizes == [4 * 40 * 60 + 200, 4 * 8 * 100 + 200]


@pytest.mark.parametrize("wrong", [{"rounds": -1}, {"rank": 0}, {"state_dropout": 1.0}, {"hidden_size": 0}])
def test_values_out_of_range_are_refused(wrong):
    [(name, value)] = wrong.items()
    with pytest.raises(UserError, match=f"{name}={value} given, but it must be"):
        MogrifierCore(3, **RIGHT | wrong)
