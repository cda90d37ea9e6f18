"""TensorBoard's custom scalars (groups of related curves) and its embedding projector."""

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from lm.config.checks import at_least
from lm.training.callbacks.fail_safe import FailSafe
from lm.training.loggers import tensorboard
from lm.training.module import LitLanguageModel

CHARTS = {
    "learning": {
        "perplexity": ["Multiline", ["perplexity/train", "perplexity/validation"]],
        "loss (nats)": ["Multiline", ["train/loss", "val/loss"]],
        "learning rate": ["Multiline", ["train/lr"]],
        "gradient norm": ["Multiline", ["train/grad_norm"]],
    },
    "speed": {
        "tokens per second": ["Multiline", ["speed/tokens_per_second"]],
        "milliseconds per batch": ["Multiline", ["speed/ms_per_batch"]],
    },
}


class TensorBoardLayout(FailSafe):
    """Groups the curves in "custom scalars"; after training, adds the `words` most frequent words to the projector."""

    def __init__(self, words: int) -> None:
        at_least(1, words=words)
        self.words = words

    @rank_zero_only
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if logger := tensorboard(trainer):
            logger.experiment.add_custom_scalars(CHARTS)

    @rank_zero_only
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if logger := tensorboard(trainer):
            assert isinstance(pl_module, LitLanguageModel)
            words = pl_module.vocabulary.words[: self.words]
            with torch.inference_mode():
                vectors = pl_module.model.embedding(torch.arange(len(words), device=pl_module.device)[:, None])
            rounded = vectors.squeeze(1).cpu().double().round(decimals=4)  # fp32 would be written with 17 digits
            logger.experiment.add_embedding(rounded, words, tag="words", global_step=trainer.global_step)
