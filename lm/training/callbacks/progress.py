"""A progress bar on a terminal, plain lines in a file."""

import math
import sys
import time
from collections.abc import Callable
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import BatchesProcessedColumn, CustomBarColumn
from rich.progress import ProgressColumn, Task, TextColumn
from rich.text import Text

from lm.evaluation.perplexity import verdict
from lm.training.callbacks.fail_safe import FailSafe
from lm.training.module import LitLanguageModel

BAR_WIDTH = 5  # the line fits into 80 columns
SHOWN: dict[str, Callable[[float], str]] = {
    "train/loss": lambda loss: f"loss {loss:.3g}",
    "train/ppl": lambda ppl: f"ppl {three_digits(ppl)}",
    "val/ppl": lambda ppl: f"val {three_digits(ppl)}",
    "speed/tokens_per_second": lambda speed: f"{three_digits(speed)} tok/s",
}


def progress() -> ProgressBar:
    """A Rich bar on a terminal, else PlainProgress."""
    return RichBar(leave=True) if sys.stdout.isatty() else PlainProgress()


class RichBar(FailSafe, RichProgressBar):
    """Lightning's Rich bar on one line of 80 columns, with the metrics of the last interval and the time left.

    `epoch 1/6 ━━━━━ 300/2984 3.6 it/s loss 4.65 ppl 104 val 122 2.2k tok/s 1h02m`; the time is that of the whole run,
    from the mean speed so far, validations included.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.metrics = ""
        self.start: tuple[float, int] | None = None  # of training: the time in seconds and the step

    def configure_columns(self, trainer: Trainer) -> list[ProgressColumn]:
        """The columns of a task; Lightning adds one for what `get_metrics` returns."""
        return [
            TextColumn("{task.description}"),
            CustomBarColumn(bar_width=BAR_WIDTH),
            BatchesProcessedColumn(style=""),
            MetricsColumn(self),
        ]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self.start = time.monotonic(), trainer.global_step

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Called after every step; only new values are read, since to read one is to wait for a GPU."""
        if getattr(pl_module, "is_logging_step", False) or not trainer.training:
            logged = {name: value.item() for name, value in trainer.callback_metrics.items() if name in SHOWN}
            self.metrics = " ".join([SHOWN[name](logged[name]) for name in SHOWN if name in logged])
        return {}

    def time_left(self, trainer: Trainer) -> str:
        """The time that the rest of the run takes at its mean speed so far; empty if unknown."""
        if self.start is None or trainer.global_step == self.start[1]:
            return ""
        seconds_per_step = (time.monotonic() - self.start[0]) / (trainer.global_step - self.start[1])
        steps = trainer.estimated_stepping_batches - trainer.global_step
        return duration(steps * seconds_per_step) if steps < float("inf") else ""

    def _get_train_description(self, current_epoch: int) -> str:  # Lightning's counts from 0
        max_epochs = self.trainer.max_epochs or -1
        return f"epoch {current_epoch + 1}" + (f"/{max_epochs}" if max_epochs > 0 else "")


class MetricsColumn(ProgressColumn):
    """Speed, metrics and time left beside the bar of training."""

    def __init__(self, bar: RichBar) -> None:
        super().__init__()
        self.bar = bar

    def render(self, task: Task) -> Text:
        if task.id != self.bar.train_progress_bar_id:
            return Text()
        speed = f"{three_digits(task.speed)} it/s" if task.speed else ""
        return Text(" ".join(filter(None, [speed, self.bar.metrics, self.bar.time_left(self.bar.trainer)])))


def three_digits(value: float) -> str:
    """A number without digits that say nothing: 104, 4.65, 12.2k, 0.36, inf."""
    if not math.isfinite(value):
        return str(value)
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{three_digits(value / limit)}{suffix}"
    return f"{value:.0f}" if abs(value) >= 99.5 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """A duration in its two largest units: 45s, 3m20s, 1h02m, 2d03h."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours:02}h"
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"


class PlainProgress(FailSafe, ProgressBar):
    """Prints a line every `trainer.log_every_n_steps` optimizer steps and one for each validation."""

    is_silent = False

    def disable(self) -> None:  # called by Lightning on every rank but 0
        self.is_silent = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if getattr(pl_module, "is_logging_step", False):
            logged = trainer.callback_metrics
            self._print_epoch(
                trainer,
                f"batch {batch_idx + 1:5d}/{trainer.num_training_batches} "
                f"| lr {logged['train/lr']:9.4g} | {logged['speed/ms_per_batch']:7.1f} ms/batch "
                f"| {logged['speed/tokens_per_second']:8,.0f} tokens/s "
                f"| loss {logged['train/loss']:6.3f} | ppl {logged['train/ppl']:9.2f}",
            )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        logged = trainer.callback_metrics
        if "val/loss" in logged and not trainer.sanity_checking:
            assert isinstance(pl_module, LitLanguageModel)
            bad = verdict(logged["val/loss"].item(), len(pl_module.vocabulary))
            self._print_epoch(
                trainer,
                f"validation after {trainer.global_step} steps "
                f"| loss {logged['val/loss']:6.3f} | ppl {logged['val/ppl']:9.2f}{bad and ' | '}{bad}",
            )

    def _print_epoch(self, trainer: Trainer, text: str) -> None:
        if not self.is_silent:
            print(f"epoch {trainer.current_epoch + 1:3d} | {text}", flush=True)
