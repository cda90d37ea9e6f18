"""docs/log_softmax.md: its numbers are computed here again, and its limits are where torch's numbers really end."""

import math
import runpy
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.conftest import ROOT

page = (ROOT / "docs" / "log_softmax.md").read_text("utf-8")
script = SimpleNamespace(**runpy.run_path(str(ROOT / "docs" / "log_softmax.py")))


@pytest.mark.parametrize("dtype", script.DTYPES, ids=str)
def test_softmax_is_zero_just_below_the_limit_and_not_just_above(dtype):
    limit = script.limits(dtype)[1]
    for gap, finite in ((-limit - 0.3, True), (-limit + 0.3, False)):
        row = torch.tensor([gap], dtype=dtype)
        assert script.log_probability(row, stable=False).isfinite().item() == finite
        assert script.log_probability(row, stable=True).item() == pytest.approx(-gap, rel=0.01)


@pytest.mark.parametrize("dtype", script.DTYPES, ids=str)
def test_exp_is_infinite_just_above_the_limit_and_not_just_below(dtype):
    limit = script.limits(dtype)[0]
    for value, finite in ((limit - 0.3, True), (limit + 0.3, False)):
        assert torch.tensor(value, dtype=dtype).exp().isfinite().item() == finite


def test_the_two_right_ways_are_one_and_the_naive_one_is_so_while_it_lasts():
    moderate = script.losses_and_gradients(torch.randn(9), 4)
    losses, gradients = zip(*moderate.values(), strict=True)
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0])
    extreme = script.losses_and_gradients(torch.tensor([0.0, -200.0]), 1)
    assert extreme["NLLLoss of log(softmax)"][0] == math.inf
    assert extreme["NLLLoss of log_softmax"][0] == extreme["cross_entropy"][0] == 200
    torch.testing.assert_close(extreme["cross_entropy"][1], torch.tensor([1.0, -1.0]))


def test_the_figure_shows_both_ways_and_their_errors_for_each_kind_of_number():
    axes = script.figure().axes
    for value, error, dtype in zip(axes[:3], axes[3:], script.DTYPES, strict=True):
        limit = -script.limits(dtype)[1]
        (stable, naive, line), (stable_error, naive_error) = value.lines, error.lines
        assert line.get_xdata()[0] == limit
        assert limit - 1 < max(naive.get_xdata()[np.isfinite(naive.get_ydata())]) < limit + 0.5
        np.testing.assert_allclose(stable.get_ydata()[1:], -stable.get_xdata()[1:], atol=0.75)
        assert stable_error.get_ydata().max() < 10 * torch.finfo(dtype).eps
        assert 0.2 < np.nanmax(naive_error.get_ydata()) <= math.log(2) + 0.01  # the last number before 0


def test_every_number_of_the_page_is_computed():
    for dtype in script.DTYPES:
        overflow, underflow = script.limits(dtype)
        assert f"| {str(dtype).removeprefix('torch.')} | {overflow:.1f} | {underflow:.1f} |" in page
    assert f"one in {math.exp(-script.limits(torch.float16)[1]) / 1e6:.0f} million" in page
    for logits in ([2.0, 0.0, -3.0], [2.0, -130.0, -3.0]):
        for name, (loss, gradient) in script.losses_and_gradients(torch.tensor(logits), 1).items():
            assert f"| {name} | {loss:.4f} | {', '.join(f'{value:.4f}' for value in gradient.tolist())} |" in page


def test_the_page_shows_a_small_figure():
    assert "(figures/log_softmax.png)" in page
    assert 10_000 < (ROOT / "docs" / "figures" / "log_softmax.png").stat().st_size < 150_000
