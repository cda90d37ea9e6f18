"""At each validation, samples and predictions of the model, for TensorBoard."""

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch.utils.tensorboard import SummaryWriter

from lm.config.checks import above_zero, at_least
from lm.data.datamodule import TextDataModule
from lm.language_model import LanguageModel
from lm.models.attention_weights import has_attention
from lm.plots import attention_maps, log_prob_heat_map, surprisal_text
from lm.training.callbacks.fail_safe import FailSafe
from lm.training.loggers import tensorboard
from lm.training.module import LitLanguageModel


class ValidationSample(FailSafe):
    """Base class of what is logged to TensorBoard at each validation."""

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if logger := tensorboard(trainer):
            assert isinstance(pl_module, LitLanguageModel)
            model = LanguageModel(pl_module.model, pl_module.vocabulary)
            # The step under which Lightning logs the perplexity; a resumed run hides what was logged under the next one
            step = max(trainer.global_step - 1, 0)
            self.show(model, trainer.datamodule, logger.experiment, step)  # type: ignore[attr-defined]

    def show(self, model: LanguageModel, data: TextDataModule, writer: SummaryWriter, step: int) -> None:
        """Log it under `step`."""
        raise NotImplementedError


class SampleText(ValidationSample):
    """Logs a sample of `words` words; sampling does not affect the training run's random state."""

    def __init__(self, words: int, temperature: float) -> None:
        at_least(1, words=words)
        above_zero(temperature=temperature)
        self.words = words
        self.temperature = temperature

    def show(self, model: LanguageModel, data: TextDataModule, writer: SummaryWriter, step: int) -> None:
        [text] = model.generate(max_words=self.words, temperature=self.temperature, seed=0)
        writer.add_text("samples/text", text, step)


class LogProbHeatMap(ValidationSample):
    """Logs the log-probabilities at the first `steps` positions of the first `streams` of the validation text."""

    def __init__(self, streams: int, steps: int) -> None:
        at_least(1, streams=streams, steps=steps)
        self.streams = streams
        self.steps = steps

    def show(self, model: LanguageModel, data: TextDataModule, writer: SummaryWriter, step: int) -> None:
        window = next(iter(data.val_dataloader()))
        device = next(model.model.parameters()).device
        inputs, targets = (ids[: self.steps, : self.streams].to(device) for ids in window)
        with torch.inference_mode():
            log_probs, _ = model.model(inputs)
        ids = list(targets.T.clamp(min=0).cpu())
        words = [model.vocabulary.decode(stream) for stream in ids]
        figure = log_prob_heat_map(list(log_probs.float().cpu().unbind(1)), ids, words)
        writer.add_figure("samples/log_prob", figure, step)


class SurprisalText(ValidationSample):
    """Logs the first `words` of the validation text shaded by surprisal, and a Transformer's attention to them.

    The `top` most probable words are listed below each word.
    """

    def __init__(self, words: int, top: int) -> None:
        at_least(1, words=words)
        at_least(0, top=top)
        self.words = words
        self.top = top

    def show(self, model: LanguageModel, data: TextDataModule, writer: SummaryWriter, step: int) -> None:
        words = model.vocabulary.decode(data.corpus.valid[: self.words])
        figure = surprisal_text([model.score(" ".join(words), self.top, eos=False)])
        writer.add_figure("samples/surprisal", figure, step)
        if has_attention(model.model):
            most = model.model.core.context or len(words) + 1
            read, weights = model.attention(" ".join(words[: most - 1]))
            writer.add_figure("samples/attention", attention_maps(weights, read), step)
