"""When oneDNN, which torch uses for an LSTM on a CPU, is the slower way."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def without_onednn() -> Iterator[None]:
    """Let torch's own kernels run: for a single step of an LSTM oneDNN takes three times as long to get ready."""
    enabled, *_ = torch.backends.mkldnn.set_flags(False, _fp32_precision=None)
    try:
        yield
    finally:
        torch.backends.mkldnn.set_flags(enabled, _fp32_precision=None)
