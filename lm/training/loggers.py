"""Lightning's loggers, made fault-tolerant: a full disk does not end the run."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from lightning import Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from torch.utils.tensorboard.summary import hparams

from lm.errors import UserError
from lm.files.errors import explain_os_errors, os_error_reason, warn

SHOWN_AS = {"train/ppl": "perplexity/train", "val/ppl": "perplexity/validation", "test/ppl": "test/perplexity"}
HIDDEN = {"epoch", "train/minutes", "train/tokens", "val/tokens", "test/tokens", "test/loss"}


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
    """Event files for TensorBoard, whose first group of curves are the perplexities.

    What has one value in a run, or the same at each validation, is no curve and is left out, but the test perplexity.
    """

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        super().log_metrics(
            {SHOWN_AS.get(name, name): each for name, each in metrics.items() if name not in HIDDEN}, step
        )

    def log_hyperparams(self, params: Mapping[str, Any], metrics: Iterable[str] = ()) -> None:  # type: ignore[override]
        """Show the hyper-parameters beside the last values of these metrics, which have been logged."""
        shown = {SHOWN_AS.get(name, name): 0.0 for name in metrics}  # the values themselves are not written
        with self.tolerating():
            for summary in hparams(self._sanitize_params(dict(params)), shown):
                self.experiment._get_file_writer().add_summary(summary)
            self.experiment.flush()

    def log_text(self, tag: str, text: str) -> None:
        """Show a text."""
        with self.tolerating():
            self.experiment.add_text(tag, text)


class CSV(_OutlivesFullDisk, CSVLogger):
    """All logged values as CSV."""


def wandb(**options: Any) -> Logger:
    """Weights & Biases; see Lightning's WandbLogger for the options."""
    return _with_package("wandb", WandbLogger, options)


def mlflow(**options: Any) -> Logger:
    """MLflow; see Lightning's MLFlowLogger for the options."""
    return _with_package("mlflow", MLFlowLogger, options)


def _with_package(name: str, logger: Callable[..., Logger], options: Mapping[str, Any]) -> Logger:
    try:
        return logger(**options)
    except ModuleNotFoundError as error:
        raise UserError(f"logger={name} given, which needs more packages: pip install -e '.[{name}]'") from error


def tensorboard(trainer: Trainer) -> TensorBoard | None:
    """The run's TensorBoard logger, or None where it has none."""
    return next((logger for logger in trainer.loggers if isinstance(logger, TensorBoard)), None)


@contextmanager
def finishing_wandb(loggers: Sequence[Logger]) -> Iterator[None]:
    """End the run of Weights & Biases with the block, however that ends; the next job of a multirun would join it."""
    code = 1
    try:
        yield
        code = 0
    finally:
        if any(isinstance(logger, WandbLogger) for logger in loggers):
            import wandb

            if wandb.run is not None:
                wandb.finish(exit_code=code)
