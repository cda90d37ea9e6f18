"""What happens beside the training step: progress, samples of the model's beliefs, a graceful stop."""

from lm.callbacks.beliefs import LogProbPicture, SampleText, TextPicture
from lm.callbacks.best_checkpoint import BestCheckpoint
from lm.callbacks.companions import Companions
from lm.callbacks.dashboard import Dashboard
from lm.callbacks.graceful_stop import GracefulStop
from lm.callbacks.progress import progress
from lm.callbacks.resume_point import ResumePoint

__all__ = [
    "BestCheckpoint",
    "Companions",
    "Dashboard",
    "GracefulStop",
    "LogProbPicture",
    "ResumePoint",
    "SampleText",
    "TextPicture",
    "progress",
]
