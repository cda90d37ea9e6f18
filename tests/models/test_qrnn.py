"""The QRNN against its equations, written out step by step."""

import pytest
import torch

from lm.errors import UserError
from lm.models import QRNNCore
from lm.models.qrnn import QRNNLayer


def plain(layer, inputs):
    """z, f, o = tanh, σ, σ of the last inputs; c = f c + (1 - f) z; h = o c, from zeros."""
    size = layer.input_size
    weights = layer.gates.weight.split(size, dim=1)  # of the oldest input of the window first
    cell, outputs = torch.zeros(inputs.size(1), layer.output_size), []
    for t in range(len(inputs)):
        gates = layer.gates.bias
        for i, weight in enumerate(weights):
            read = t - (layer.kernel_size - 1) + i
            gates = gates + (inputs[read] @ weight.T if read >= 0 else 0)
        candidate, forget, output = gates.expand(inputs.size(1), -1).chunk(3, dim=1)
        cell = forget.sigmoid() * cell + (1 - forget.sigmoid()) * candidate.tanh()
        outputs.append(output.sigmoid() * cell)
    return torch.stack(outputs)


@pytest.mark.parametrize("kernel_size", [1, 2, 3])
def test_values_and_gradients_are_those_of_the_equations(kernel_size):
    layer = QRNNLayer(4, 5, kernel_size)
    inputs = torch.randn(6, 2, 4, requires_grad=True)
    given = [inputs, *layer.parameters()]
    outputs, exact = layer(inputs, layer.initial_state(2))[0], plain(layer, inputs)
    torch.testing.assert_close(outputs, exact)
    ours, theirs = (torch.autograd.grad(each.square().sum(), given) for each in (outputs, exact))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("kernel_size", [1, 2, 3])
def test_the_state_joins_windows_of_any_length(kernel_size):
    core = QRNNCore(4, hidden_size=5, num_layers=2, dropout=0.0, kernel_size=kernel_size)
    inputs = torch.randn(7, 2, 4)
    whole, _ = core(inputs, core.initial_state(2))
    parts, state = [], core.initial_state(2)
    for part in inputs.split([1, 1, 4, 1]):
        outputs, state = core(part, state)
        parts.append(outputs)
    torch.testing.assert_close(torch.cat(parts), whole)


def test_a_kernel_of_no_inputs_is_refused():
    with pytest.raises(UserError, match="kernel_size=0 given, but it must be at least 1"):
        QRNNCore(4, hidden_size=5, num_layers=1, dropout=0.0, kernel_size=0)


def test_skip_connections_add_a_layers_input_to_its_output():
    core = QRNNCore(4, hidden_size=5, num_layers=2, dropout=0.0, skip_connections=True)
    inputs = torch.randn(6, 2, 4)
    first, second = core.layers
    below, _ = first(inputs, first.initial_state(2))
    above, _ = second(below, second.initial_state(2))
    torch.testing.assert_close(core(inputs, core.initial_state(2))[0], below + above)
