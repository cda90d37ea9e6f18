"""At each validation, what the model would write and what it expects, for TensorBoard."""

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from lm.attention import has_attention
from lm.checks import above_zero, at_least
from lm.language_model import LanguageModel
from lm.module import TrainingModule
from lm.plots import attention_maps, log_prob_heat_map, shaded_text


def tensorboard(trainer: Trainer) -> TensorBoardLogger | None:
    """The run's TensorBoard logger, or None where it has none."""
    return next((logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)), None)


def last_step(trainer: Trainer) -> int:
    """The step under which Lightning logs this validation's perplexity.

    A run that goes on from here hides what was logged under the next one.
    """
    return max(trainer.global_step - 1, 0)


class SampleText(Callback):
    """Logs a text of the model's own; its draws leave the training run's randomness alone.

    Args:
        words: the length of the text.
        temperature: see `lm.sampling.Sampling`.
    """

    def __init__(self, words: int, temperature: float) -> None:
        at_least(1, words=words)
        above_zero(temperature=temperature)
        self.words = words
        self.temperature = temperature

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the text."""
        if logger := tensorboard(trainer):
            assert isinstance(pl_module, TrainingModule)
            model = LanguageModel(pl_module.model, pl_module.vocabulary)
            [text] = model.generate(words=self.words, temperature=self.temperature, seed=0)
            logger.experiment.add_text("samples/text", text, last_step(trainer))


class LogProbPicture(Callback):
    """Logs the log-probability heat map of the first columns of the validation text.

    Args:
        columns: how many panels.
        steps: how many positions in each.
    """

    def __init__(self, columns: int, steps: int) -> None:
        at_least(1, columns=columns, steps=steps)
        self.columns = columns
        self.steps = steps

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the picture."""
        if logger := tensorboard(trainer):
            assert isinstance(pl_module, TrainingModule)
            window = next(iter(trainer.datamodule.val_dataloader()))  # type: ignore[attr-defined]  # Lightning sets it
            inputs, targets = (ids[: self.steps, : self.columns].to(pl_module.device) for ids in window)
            with torch.inference_mode():
                log_probs, _ = pl_module.model(inputs)
            words = [pl_module.vocabulary.decode(column) for column in targets.T.clamp(min=0)]
            figure = log_prob_heat_map(list(log_probs.float().cpu().unbind(1)), words)
            logger.experiment.add_figure("samples/log_prob", figure, last_step(trainer))


class TextPicture(Callback):
    """Logs the beginning of the validation text shaded by surprise, and a Transformer's attention to it.

    Args:
        words: of the text.
        top: the model's first choices to write below each word.
    """

    def __init__(self, words: int, top: int) -> None:
        at_least(1, words=words)
        at_least(0, top=top)
        self.words = words
        self.top = top

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the pictures."""
        if logger := tensorboard(trainer):
            assert isinstance(pl_module, TrainingModule)
            model = LanguageModel(pl_module.model, pl_module.vocabulary)
            words = pl_module.vocabulary.decode(trainer.datamodule.corpus.valid[: self.words])  # type: ignore[attr-defined]
            figure = shaded_text([model.score(" ".join(words), self.top, eos=False)])
            logger.experiment.add_figure("samples/surprise", figure, last_step(trainer))
            if has_attention(pl_module.model):
                most = pl_module.model.core.context or len(words) + 1
                read, weights = model.attention(" ".join(words[: most - 1]))
                logger.experiment.add_figure("samples/attention", attention_maps(weights, read), last_step(trainer))
