"""Disable oneDNN, torch's backend for an LSTM on a CPU, where it is slower."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def without_onednn() -> Iterator[None]:
    """Use torch's own kernels: for a single step of an LSTM oneDNN's set-up makes it three times as slow."""
    enabled, *_ = torch.backends.mkldnn.set_flags(False, _fp32_precision=None)
    try:
        yield
    finally:
        torch.backends.mkldnn.set_flags(enabled, _fp32_precision=None)
