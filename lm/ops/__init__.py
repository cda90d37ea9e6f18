"""Faster operators for CPUs, each tested against its plain version, and settings of precision and memory."""

from lm.ops.allocator import keep_freed_memory
from lm.ops.attention import attention, attention_weights
from lm.ops.dropout import Dropout, LockedDropout, make_dropout
from lm.ops.linear import linear
from lm.ops.linear_cross_entropy import IGNORE_INDEX, linear_cross_entropy
from lm.ops.linear_recurrence import linear_recurrence
from lm.ops.onednn import SHAPE_MULTIPLE, without_onednn
from lm.ops.precision import check_precision, fast_precision, has_bfloat16_lstm
from lm.ops.rms_norm import rms_norm
from lm.ops.scan import scan
from lm.ops.select_rows import select_rows
from lm.ops.step_linear import StepLinear

__all__ = [
    "IGNORE_INDEX",
    "SHAPE_MULTIPLE",
    "Dropout",
    "LockedDropout",
    "StepLinear",
    "attention",
    "attention_weights",
    "check_precision",
    "fast_precision",
    "has_bfloat16_lstm",
    "keep_freed_memory",
    "linear",
    "linear_cross_entropy",
    "linear_recurrence",
    "make_dropout",
    "rms_norm",
    "scan",
    "select_rows",
    "without_onednn",
]
