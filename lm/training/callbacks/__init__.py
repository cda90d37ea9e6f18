"""Callbacks: logging and figures outside the training step, and the best checkpoint."""

from lm.training.callbacks.best_checkpoint import BestCheckpoint
from lm.training.callbacks.lost_rank import LostRank
from lm.training.callbacks.progress import progress
from lm.training.callbacks.tensorboard_layout import TensorBoardLayout
from lm.training.callbacks.training_time import TrainingTime
from lm.training.callbacks.validation_samples import LogProbHeatMap, SampleText, SurprisalText

__all__ = [
    "BestCheckpoint",
    "LogProbHeatMap",
    "LostRank",
    "SampleText",
    "SurprisalText",
    "TensorBoardLayout",
    "TrainingTime",
    "progress",
]
