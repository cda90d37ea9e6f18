"""Perplexity: over all tokens of a split, whatever the windows."""

import math

import pytest
import torch

from lm.ops import IGNORE_INDEX
from lm.training.metrics import TextLoss


def test_perplexity_is_the_exponential_of_nats_over_tokens_not_a_mean_of_windows():
    metric = TextLoss()
    metric.update(torch.full((3, 2), 1.0), torch.zeros(3, 2, dtype=torch.long))
    metric.update(torch.full((1, 2), 5.0), torch.zeros(1, 2, dtype=torch.long))
    result = metric.compute()
    assert result["loss"].item() == pytest.approx((6 * 1 + 2 * 5) / 8)
    assert result["ppl"].item() == pytest.approx(math.exp(2))
    assert result["tokens"] == 8


def test_padding_is_not_counted():
    metric = TextLoss()
    metric.update(torch.tensor([[2.0, 0.0]]), torch.tensor([[7, IGNORE_INDEX]]))
    assert metric.compute()["tokens"] == 1
    assert metric.compute()["loss"] == 2


def test_sums_keep_every_token_of_a_long_text():
    metric = TextLoss()
    nll = torch.full((1000, 100), 0.1)
    for _ in range(200):
        metric.update(nll, torch.zeros(1000, 100, dtype=torch.long))
    assert metric.compute()["tokens"] == 20_000_000
    assert metric.compute()["loss"].item() == pytest.approx(torch.tensor(0.1).item(), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sums_are_exact_in_a_module_of_16_bits(dtype):
    module = torch.nn.Module()
    module.loss = TextLoss()
    module.to(dtype=dtype)  # as trainer.precision=bf16-true does
    for _ in range(3):
        module.loss.reset()
        for _ in range(600):
            module.loss.update(torch.full((35, 10), 5.0), torch.zeros(35, 10, dtype=torch.long))
    assert module.loss.compute()["loss"].item() == pytest.approx(5)
