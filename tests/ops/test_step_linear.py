"""Linear maps within a loop against plain products, whose gradients autograd adds up step by step."""

import pytest
import torch

from lm.ops import StepLinear


def hidden_states(state, products, biases):
    outputs = []
    for bias in biases:
        state = products(state, bias).tanh()
        outputs.append(state)
    return outputs


@pytest.mark.parametrize("last", [4, 2, 0])
def test_values_and_gradients_are_those_of_the_plain_loop(last):
    weight, biases = torch.randn(3, 3, requires_grad=True), torch.randn(5, 2, 3, requires_grad=True)
    state = torch.randn(2, 3, requires_grad=True)
    linear = StepLinear(weight, biases)
    ours = hidden_states(state, linear, linear.biases)[last]  # the steps after it have no gradient
    theirs = hidden_states(state, lambda rows, bias: rows @ weight + bias, biases)[last]
    torch.testing.assert_close(ours, theirs)
    given = weight, biases, state
    expected = torch.autograd.grad(theirs.square().sum(), given)
    for _ in range(2):  # as often as one likes
        torch.testing.assert_close(torch.autograd.grad(ours.square().sum(), given, retain_graph=True), expected)


def test_without_gradients_it_keeps_no_rows():
    linear = StepLinear(torch.randn(3, 3), torch.randn(5, 2, 3))
    hidden_states(torch.randn(2, 3), linear, linear.biases)
    assert not linear.rows
