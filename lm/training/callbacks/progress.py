"""A progress bar on a terminal, plain lines in a file."""

import sys
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar

from lm.evaluation.perplexity import verdict
from lm.training.callbacks.fail_safe import FailSafe
from lm.training.module import LitLanguageModel

SHORT = {"train/loss": "loss", "train/ppl": "ppl", "speed/tokens_per_second": "tokens/s", "val/ppl": "val ppl"}


def progress() -> ProgressBar:
    """A Rich bar on a terminal, else PlainProgress."""
    return RichBar(leave=True) if sys.stdout.isatty() else PlainProgress()


class RichBar(FailSafe, RichProgressBar):
    """Lightning's Rich bar, with loss, perplexity and speed of the last interval on one line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.shown: dict[str, Any] = {}

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Called after every step; only new values are read, since to read one is to wait for a GPU."""
        if getattr(pl_module, "is_logging_step", False) or not trainer.training:
            logged = trainer.callback_metrics
            self.shown = {short: f"{logged[name].item():,.5g}" for name, short in SHORT.items() if name in logged}
        return self.shown


class PlainProgress(FailSafe, ProgressBar):
    """Prints a line every `trainer.log_every_n_steps` batches and one for each validation."""

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
                f"| lr {logged['train/lr']:8.4g} | {logged['speed/ms_per_batch']:7.1f} ms/batch "
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
