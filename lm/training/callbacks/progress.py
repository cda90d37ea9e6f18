"""A progress bar where someone watches, plain lines where output goes to a file."""

import sys
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar

from lm.evaluation.perplexity import verdict
from lm.training.callbacks.fail_safe import FailSafe
from lm.training.module import LitLanguageModel


def progress() -> ProgressBar:
    """A Rich bar on a terminal, else PlainProgress."""
    return RichBar(leave=True) if sys.stdout.isatty() else PlainProgress()


class RichBar(FailSafe, RichProgressBar):
    """Lightning's Rich bar, with the names that fit a line."""

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """The loss, the perplexity and the speed of the last interval."""
        logged = trainer.callback_metrics
        names = {"train/loss": "loss", "train/ppl": "ppl", "speed/tokens_per_second": "tokens/s", "val/ppl": "val ppl"}
        return {short: f"{logged[name].item():,.5g}" for name, short in names.items() if name in logged}


class PlainProgress(FailSafe, ProgressBar):
    """Prints a line every `trainer.log_every_n_steps` batches and one for each validation."""

    def disable(self) -> None:
        """Say nothing: Lightning calls this in every process but the first."""
        self.silent = True

    def __init__(self) -> None:
        super().__init__()
        self.silent = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Print what the step has just logged."""
        logged = trainer.callback_metrics
        if not self.silent and getattr(pl_module, "is_logging_step", False):
            print(
                f"epoch {trainer.current_epoch + 1:3d} | batch {batch_idx + 1:5d}/{trainer.num_training_batches} "
                f"| lr {logged['train/lr']:8.4g} | {logged['speed/ms_per_batch']:7.1f} ms/batch "
                f"| {logged['speed/tokens_per_second']:8,.0f} tokens/s "
                f"| loss {logged['train/loss']:6.3f} | ppl {logged['train/ppl']:9.2f}",
                flush=True,
            )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the validation loss and perplexity."""
        logged = trainer.callback_metrics
        if not self.silent and "val/loss" in logged and not trainer.sanity_checking:
            assert isinstance(pl_module, LitLanguageModel)
            bad = verdict(logged["val/loss"].item(), len(pl_module.vocabulary))
            print(
                f"epoch {trainer.current_epoch + 1:3d} | validation after {trainer.global_step} steps "
                f"| loss {logged['val/loss']:6.3f} | ppl {logged['val/ppl']:9.2f}{bad and ' | '}{bad}",
                flush=True,
            )
