"""Which precision a machine gets."""

import pytest
import torch

from lm.ops import fast_precision


@pytest.mark.parametrize(
    ("able", "accelerator", "precision"),
    [
        ({"avx512_bf16": True}, "cpu", "bf16-mixed"),
        ({"amx_bf16": True}, "cpu", "bf16-mixed"),
        ({"avx2": True, "avx512_bf16": False}, "cpu", "32-true"),
        ({}, "cpu", "32-true"),
        ({"amx_bf16": True}, "gpu", "32-true"),
    ],
)
def test_bfloat16_is_for_cpus_that_multiply_it_by_themselves(monkeypatch, able, accelerator, precision):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert fast_precision(accelerator) == precision


@pytest.mark.parametrize(("gpu", "precision"), [(True, "32-true"), (False, "bf16-mixed")])
def test_auto_means_what_it_will_choose(monkeypatch, gpu, precision):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert fast_precision("auto") == precision
