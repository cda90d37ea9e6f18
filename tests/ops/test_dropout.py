"""Dropout with 16 random bits per element: its rate, scale, independence and gradient."""

import pytest
import torch
from torch import nn

from lm.ops import Dropout


@pytest.mark.parametrize("p", [0.001, 0.2, 0.5, 0.9])
def test_elements_are_dropped_at_the_rate_and_the_others_scaled_to_keep_the_mean(p):
    torch.manual_seed(0)
    count = 400_000
    outputs = Dropout(p)(torch.ones(count))
    dropped = (outputs == 0).sum().item()
    assert abs(dropped - p * count) < 4 * (p * (1 - p) * count) ** 0.5
    assert outputs.max().item() == pytest.approx(1 / (1 - p), rel=1e-3)


def test_elements_are_dropped_independently_of_each_other():
    torch.manual_seed(0)
    kept = (Dropout(0.5)(torch.ones(100_000, 4)) > 0).float()
    codes = (kept @ torch.tensor([1.0, 2.0, 4.0, 8.0])).long()
    counts, expected = codes.bincount(minlength=16), 100_000 / 16
    assert ((counts - expected) ** 2 / expected).sum() < 37.7  # chi-square with 15 degrees of freedom, p = 0.001
    lagged = torch.corrcoef(torch.stack([kept.flatten()[:-1], kept.flatten()[1:]]))
    assert abs(lagged[0, 1]) < 4 / 400_000**0.5


@pytest.mark.parametrize("shape", [(), (1,), (3,), (5, 7), (2, 0)], ids=str)
def test_every_shape_has_its_own_mask_from_the_random_state(shape):
    inputs = torch.ones(shape)
    torch.manual_seed(1)
    first = Dropout(0.5)(inputs)
    torch.manual_seed(1)
    again = Dropout(0.5)(inputs)
    assert first.shape == shape
    torch.testing.assert_close(first, again, rtol=0, atol=0)


def test_the_gradient_has_the_mask_and_the_scale_of_the_outputs():
    inputs = torch.ones(1000, requires_grad=True)
    outputs = Dropout(0.3)(inputs)
    outputs.sum().backward()
    torch.testing.assert_close(inputs.grad, outputs.detach(), rtol=0, atol=0)


def test_a_rate_below_one_never_drops_everything_by_rounding():
    assert Dropout(1 - 1e-9)(torch.ones(4)).isfinite().all()


def test_evaluation_and_a_rate_of_zero_leave_the_inputs_as_they_are():
    inputs = torch.randn(10)
    assert Dropout(0.5).eval()(inputs) is inputs
    torch.testing.assert_close(Dropout(0.0)(inputs), inputs, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_the_type_of_the_inputs_stays(dtype):
    assert Dropout(0.5)(torch.ones(8, dtype=dtype)).dtype == nn.Dropout(0.5)(torch.ones(8, dtype=dtype)).dtype
