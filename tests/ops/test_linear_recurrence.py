"""The linear recurrence against its equation, in one and in several parts, with gates near 0 and 1."""

import pytest
import torch

from lm.ops import linear_recurrence


def plain(decay, inputs, state):
    steps = []
    for step_decay, step_inputs in zip(decay, inputs, strict=True):
        state = step_decay * state + step_inputs
        steps.append(state)
    return torch.stack(steps)


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_values_and_gradients_are_those_of_the_equation(steps):
    decay, inputs = torch.randn(2, steps, 3, 5, dtype=torch.double)
    given = decay.sigmoid().requires_grad_(), inputs.requires_grad_(), torch.randn(3, 5).double().requires_grad_()
    weights = torch.randn(steps, 3, 5)
    ours, theirs = linear_recurrence(*given), plain(*given)
    torch.testing.assert_close(ours, theirs)
    gradients = [torch.autograd.grad((hidden * weights).sum(), given) for hidden in (ours, theirs)]
    torch.testing.assert_close(*gradients)


def test_a_thousand_steps_with_extreme_gates_stay_finite_and_exact():
    torch.manual_seed(0)
    decay = (torch.randn(1000, 2, 8) * 50).sigmoid()  # 0 or 1 in fp32, mostly
    assert (decay == 0).any() and (decay == 1).any()
    inputs = (1 - decay) * torch.randn(1000, 2, 8)
    given = decay.requires_grad_(), inputs.requires_grad_(), torch.randn(2, 8, requires_grad=True)
    ours, exact = linear_recurrence(*given), plain(*(each.double() for each in given))
    torch.testing.assert_close(ours.double(), exact, rtol=1e-4, atol=1e-4)
    gradients = torch.autograd.grad(ours.square().mean(), given), torch.autograd.grad(exact.square().mean(), given)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


def test_it_runs_in_the_states_precision_and_gives_gradients_in_the_inputs():
    decay, inputs = torch.rand(2, 9, 3, 5).bfloat16()
    decay.requires_grad_()
    hidden = linear_recurrence(decay, inputs, torch.zeros(3, 5))
    torch.testing.assert_close(hidden, plain(decay.float(), inputs.float(), torch.zeros(3, 5)))
    hidden.sum().backward()
    assert decay.grad.dtype == torch.bfloat16
