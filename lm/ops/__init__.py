"""What is done for speed alone: the same mathematics, sooner."""

from lm.ops.allocator import keep_freed_memory
from lm.ops.linear import linear
from lm.ops.linear_nll import IGNORED, linear_nll, plain_linear_nll
from lm.ops.onednn import without_onednn
from lm.ops.precision import check_precision, fast_precision, has_bfloat16_lstm

__all__ = [
    "IGNORED",
    "check_precision",
    "fast_precision",
    "has_bfloat16_lstm",
    "keep_freed_memory",
    "linear",
    "linear_nll",
    "plain_linear_nll",
    "without_onednn",
]
