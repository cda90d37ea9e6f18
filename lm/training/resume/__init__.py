"""Resuming a run exactly where it stopped, for whatever reason."""

from lm.training.resume.graceful_stop import GracefulStop
from lm.training.resume.resumable_checkpoint import ResumableCheckpoint

__all__ = ["GracefulStop", "ResumableCheckpoint"]
