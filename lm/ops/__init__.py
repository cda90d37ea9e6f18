"""The few things done for speed alone; none changes what is computed."""

from lm.ops.allocator import keep_freed_memory

__all__ = ["keep_freed_memory"]
