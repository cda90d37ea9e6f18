"""oneDNN, torch's backend for some operators on a CPU: disabled where it is slower, used where torch does not."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional as F

SHAPE_MULTIPLE = 64  # oneDNN compiles a kernel per shape, so pad a number of rows that varies to a multiple


@contextmanager
def without_onednn() -> Iterator[None]:
    """Use torch's own kernels: for a single step of an LSTM oneDNN's set-up makes it three times as slow."""
    enabled, *_ = torch.backends.mkldnn.set_flags(False, _fp32_precision=None)
    try:
        yield
    finally:
        torch.backends.mkldnn.set_flags(enabled, _fp32_precision=None)


def onednn_linear(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """F.linear by oneDNN, to which torch itself gives 16-bit products only; MKL, on AMD's CPUs, takes twice as long.

    The operator is torch's compiler's and not public: where a release of torch lacks it, F.linear is used.
    """
    operator = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    if operator is None or rows.dtype != torch.float32 or not torch.backends.mkldnn.is_available():
        return F.linear(rows, weight, bias)
    return operator(rows, weight, bias, "none", [], "")
