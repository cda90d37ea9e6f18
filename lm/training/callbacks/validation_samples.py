"""At each validation, what the model would write and what it expects, for TensorBoard."""

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch.utils.tensorboard import SummaryWriter

from lm.config.checks import above_zero, at_least
from lm.data import TextDataModule
from lm.language_model import LanguageModel
from lm.models.attention_weights import has_attention
from lm.plots import attention_maps, log_prob_heat_map, shaded_text
from lm.training.callbacks.fail_safe import FailSafe
from lm.training.loggers import TensorBoard
from lm.training.module import LitLanguageModel


def tensorboard(trainer: Trainer) -> TensorBoard | None:
    """The run's TensorBoard logger, or None where it has none."""
    return next((logger for logger in trainer.loggers if isinstance(logger, TensorBoard)), None)


def last_step(trainer: Trainer) -> int:
    """The step under which Lightning logs this validation's perplexity.

    A run that goes on from here hides what was logged under the next one.
    """
    return max(trainer.global_step - 1, 0)


class ValidationSample(FailSafe):
    """Shows something of the model in TensorBoard at each validation."""

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show it, where the run has TensorBoard."""
        if logger := tensorboard(trainer):
            assert isinstance(pl_module, LitLanguageModel)
            data = trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it
            self.show(LanguageModel(pl_module.model, pl_module.vocabulary), data, logger.experiment, last_step(trainer))

    def show(self, model: LanguageModel, data: TextDataModule, writer: SummaryWriter, step: int) -> None:
        """Write it under `step`."""
        raise NotImplementedError


class SampleText(ValidationSample):
    """Logs a text of the model's own; its draws leave the training run's randomness alone.

    Args:
        words: the length of the text.
        temperature: see `lm.generation.config.GenerationConfig`.
    """

    def __init__(self, words: int, temperature: float) -> None:
        at_least(1, words=words)
        above_zero(temperature=temperature)
        self.words = words
        self.temperature = temperature

    def show(self, model: LanguageModel, data: TextDataModule, writer: SummaryWriter, step: int) -> None:
        """Write the text."""
        [text] = model.generate(max_words=self.words, temperature=self.temperature, seed=0)
        writer.add_text("samples/text", text, step)


class LogProbHeatMap(ValidationSample):
    """Logs the log-probability heat map of the first columns of the validation text.

    Args:
        columns: how many panels.
        steps: how many positions in each.
    """

    def __init__(self, columns: int, steps: int) -> None:
        at_least(1, columns=columns, steps=steps)
        self.columns = columns
        self.steps = steps

    def show(self, model: LanguageModel, data: TextDataModule, writer: SummaryWriter, step: int) -> None:
        """Draw the picture."""
        window = next(iter(data.val_dataloader()))
        device = next(model.model.parameters()).device
        inputs, targets = (ids[: self.steps, : self.columns].to(device) for ids in window)
        with torch.inference_mode():
            log_probs, _ = model.model(inputs)
        words = [model.vocabulary.decode(column) for column in targets.T.clamp(min=0)]
        figure = log_prob_heat_map(list(log_probs.float().cpu().unbind(1)), words)
        writer.add_figure("samples/log_prob", figure, step)


class SurprisalText(ValidationSample):
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

    def show(self, model: LanguageModel, data: TextDataModule, writer: SummaryWriter, step: int) -> None:
        """Draw the pictures."""
        words = model.vocabulary.decode(data.corpus.valid[: self.words])
        figure = shaded_text([model.score(" ".join(words), self.top, eos=False)])
        writer.add_figure("samples/surprise", figure, step)
        if has_attention(model.model):
            most = model.model.core.context or len(words) + 1
            read, weights = model.attention(" ".join(words[: most - 1]))
            writer.add_figure("samples/attention", attention_maps(weights, read), step)
