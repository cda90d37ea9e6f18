"""Attention against torch's function, and its dropout against a mask put in by hand."""

import math

import pytest
import torch
from torch.nn import functional as F

from lm.ops import Dropout, attention, attention_weights

B, HEADS, T, S, D = 2, 3, 4, 7, 5


def inputs(dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(B, HEADS, steps, D, generator=generator) for steps in (T, S, S))
    mask = torch.zeros(T, S).masked_fill(torch.ones(T, S).triu(S - T + 1) > 0, -math.inf)
    return [*(each.to(dtype).requires_grad_() for each in (query, key, value)), mask]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_and_gradients_are_those_of_torch(dtype):
    results = []
    for function in (attention, lambda *args: F.scaled_dot_product_attention(*args[:3], args[3].to(dtype))):
        tensors = inputs(dtype)
        output = function(*tensors, Dropout(0.5).eval())
        assert output.dtype == dtype
        output.square().sum().backward()
        results.append([each.float() for each in (output, *(tensor.grad for tensor in tensors[:3]))])
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(*results, rtol=tolerance, atol=tolerance)


def test_without_gradients_it_is_the_same():
    tensors = inputs()
    expected = attention(*tensors, Dropout(0.0))
    with torch.no_grad():
        torch.testing.assert_close(attention(*tensors, Dropout(0.0)), expected)


def test_dropout_is_of_the_weights_and_only_while_training():
    query, key, _, mask = inputs()
    value = torch.eye(S).expand(B, HEADS, S, S)  # the output is the weights
    weights = attention_weights(query, key, mask)
    dropped = attention(query, key, value, mask, Dropout(0.5).train())
    torch.testing.assert_close(dropped[dropped > 0], 2 * weights[dropped > 0])
    assert 0.2 < dropped[weights > 0].eq(0).float().mean() < 0.8
    torch.testing.assert_close(attention(query, key, value, mask, Dropout(0.5).eval()), weights)
