"""A linear layer for few rows against torch's own."""

import pytest
import torch
from torch.nn import functional as F

from lm.ops import linear
from lm.ops.linear import FEW


@pytest.mark.parametrize("threads", [1, 3, 4])
@pytest.mark.parametrize("words", [10, 11])
@pytest.mark.parametrize("shape", [(1,), (1, 1), (2, 3), (FEW,), (FEW + 1,), (0,)], ids=str)
def test_is_what_torch_computes(shape, words, threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    rows, weight, bias = torch.randn(*shape, 5), torch.randn(words, 5), torch.randn(words)
    with torch.inference_mode():
        torch.testing.assert_close(linear(rows, weight, bias), F.linear(rows, weight, bias))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("rows", [2, FEW + 1])
def test_other_precisions_are_what_torch_computes(rows, dtype):
    rows, weight, bias = (torch.randn(*shape, dtype=dtype) for shape in ((rows, 5), (11, 5), (11,)))
    with torch.inference_mode():
        torch.testing.assert_close(linear(rows, weight, bias), F.linear(rows, weight, bias))


def test_few_rows_do_not_go_through_torchs_own_linear(monkeypatch):
    monkeypatch.setattr(F, "linear", None)
    with torch.inference_mode():
        assert linear(torch.ones(1, 5), torch.ones(10, 5), torch.zeros(10)).tolist() == [[5.0] * 10]


def test_gradients_pass_where_they_are_wanted():
    rows, weight, bias = torch.randn(1, 5, requires_grad=True), torch.randn(10, 5), torch.randn(10)
    linear(rows, weight, bias).sum().backward()
    torch.testing.assert_close(rows.grad, weight.sum(0, keepdim=True))
