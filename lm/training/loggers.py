"""Lightning's loggers, made fault-tolerant: a full disk does not end the run."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning import Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from lm.files.errors import explain_os_errors, os_error_reason, warn


def report_thread_error(error: threading.ExceptHookArgs) -> None:
    """For `threading.excepthook`: TensorBoard's writer keeps its error, and the next call to it raises it."""
    if type(error.thread).__name__ != "_AsyncWriterThread":
        threading.__excepthook__(error)


class _OutlivesFullDisk(Logger):
    """Turns a failed write into one warning; later values may be lost."""

    has_failed = False

    @property
    def experiment(self) -> Any:
        """As Lightning's, which makes the folder; Lightning asks for it before training."""
        with explain_os_errors(f"log to {self.save_dir}"):
            return super().experiment  # type: ignore[misc]  # of the logger mixed in with this class

    @contextmanager
    def tolerating(self) -> Iterator[None]:
        """Tolerate failed writes in the block."""
        try:
            yield
        except (OSError, ValueError) as error:  # Lightning turns the former into the latter
            if not (reason := os_error_reason(error)):
                raise
            if not self.has_failed:
                self.has_failed = True
                warn(f"Cannot log to {self.log_dir}: {reason}. Training goes on.")

    def log_metrics(self, *args: Any, **options: Any) -> None:
        with self.tolerating():
            super().log_metrics(*args, **options)  # type: ignore[safe-super]

    def log_hyperparams(self, *args: Any, **options: Any) -> None:
        with self.tolerating():
            super().log_hyperparams(*args, **options)  # type: ignore[safe-super]

    def save(self) -> None:
        with self.tolerating():
            super().save()

    def finalize(self, status: str) -> None:
        with self.tolerating():
            super().finalize(status)


class TensorBoard(_OutlivesFullDisk, TensorBoardLogger):
    """Event files for TensorBoard."""

    def log_text(self, tag: str, text: str) -> None:
        """Show a text."""
        with self.tolerating():
            self.experiment.add_text(tag, text)


class CSV(_OutlivesFullDisk, CSVLogger):
    """All logged values as CSV."""


def tensorboard(trainer: Trainer) -> TensorBoard | None:
    """The run's TensorBoard logger, or None where it has none."""
    return next((logger for logger in trainer.loggers if isinstance(logger, TensorBoard)), None)
