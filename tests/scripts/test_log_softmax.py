"""The page on log_softmax: its limits are where torch's numbers really end."""

import math

import numpy as np
import pytest
import torch

from lm.log_softmax import DTYPES, figure, log_probability, losses_and_gradients, page, precision
from scripts.log_softmax import log_softmax
from tests.conftest import composed


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_softmax_is_zero_just_below_the_limit_and_not_just_above(dtype):
    limit = precision(dtype).underflow
    for gap, finite in ((-limit - 0.3, True), (-limit + 0.3, False)):
        row = torch.tensor([gap], dtype=dtype)
        assert log_probability(row, stable=False).isfinite().item() == finite
        assert log_probability(row, stable=True).item() == pytest.approx(-gap, rel=0.01)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_exp_is_infinite_just_above_the_limit_and_not_just_below(dtype):
    limit = precision(dtype).overflow
    for value, finite in ((limit - 0.3, True), (limit + 0.3, False)):
        assert torch.tensor(value, dtype=dtype).exp().isfinite().item() == finite


def test_the_two_right_ways_are_one_and_the_naive_one_is_so_while_it_lasts():
    moderate = losses_and_gradients(torch.randn(9), 4)
    losses, gradients = zip(*moderate.values(), strict=True)
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0])
    extreme = losses_and_gradients(torch.tensor([0.0, -200.0]), 1)
    assert extreme["NLLLoss of log(softmax)"][0] == math.inf
    assert extreme["NLLLoss of log_softmax"][0] == extreme["cross_entropy"][0] == 200
    torch.testing.assert_close(extreme["cross_entropy"][1], torch.tensor([1.0, -1.0]))


def test_the_figure_shows_both_ways_and_their_errors_for_each_kind_of_number():
    axes = figure().axes
    for value, error, dtype in zip(axes[:3], axes[3:], DTYPES, strict=True):
        limit = -precision(dtype).underflow
        (stable, naive, line), (stable_error, naive_error, _) = value.lines, error.lines
        assert line.get_xdata()[0] == limit
        assert limit - 1 < max(naive.get_xdata()[np.isfinite(naive.get_ydata())]) < limit + 0.5
        np.testing.assert_allclose(stable.get_ydata()[1:], -stable.get_xdata()[1:], atol=0.75)
        assert stable_error.get_ydata().max() < 10 * torch.finfo(dtype).eps
        assert 0.2 < np.nanmax(naive_error.get_ydata()) <= math.log(2) + 0.01  # the last number before 0


def test_the_script_writes_the_page_beside_its_figure(tmp_path):
    written = log_softmax(composed("log_softmax", f"out={tmp_path}/why"))
    assert written.read_text() == page("why.png")
    assert f"| float16 | {math.log(65504):.1f} |" in written.read_text()
    assert (tmp_path / "why.png").read_bytes().startswith(b"\x89PNG")
