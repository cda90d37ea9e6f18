"""RMSNorm against torch's."""

import pytest
import torch
from torch.nn import functional as F

from lm.ops import rms_norm

EPS = 1e-3


def inputs(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(5, 3, 2, 8, generator=generator).to(dtype).requires_grad_()
    return features, torch.randn(8, generator=generator).requires_grad_()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])  # trainer.precision=64-true
@pytest.mark.parametrize("permuted", [False, True])
def test_values_and_gradients_are_those_of_torch(permuted, dtype):
    dims = (1, 2, 0, 3) if permuted else (0, 1, 2, 3)
    results = []
    for norm in (rms_norm, lambda x, w, eps: F.rms_norm(x, w.shape, w, eps)):
        features, weight = (each.detach().to(dtype).requires_grad_() for each in inputs(dtype))
        output = norm(features.permute(dims), weight, EPS)
        output.square().sum().backward()
        results.append((output, features.grad, weight.grad))
    torch.testing.assert_close(*results)


def test_bfloat16_is_fp32_up_to_rounding_and_the_weights_gradient_is_fp32():
    results = []
    for dtype in (torch.bfloat16, torch.float32):
        features, weight = inputs(torch.bfloat16)
        output = rms_norm(features.to(dtype), weight, EPS)
        assert output.dtype == dtype
        output.square().sum().backward()
        assert weight.grad.dtype == torch.float32
        results.append((output.float(), features.grad.float(), weight.grad))
    for ours, exact in zip(*results, strict=True):
        assert (ours - exact).norm() < 0.02 * exact.norm()


def test_zeros_stay_zeros_with_and_without_gradients():
    zeros = torch.zeros(2, 8, requires_grad=True)
    output = rms_norm(zeros, torch.ones(8), EPS)
    output.sum().backward()
    assert output.eq(0).all()
    assert zeros.grad.isfinite().all()
    with torch.no_grad():
        features, weight = inputs(torch.float32)
        torch.testing.assert_close(rms_norm(features, weight, EPS), F.rms_norm(features, (8,), weight, EPS))
