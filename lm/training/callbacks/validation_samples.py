"""At each validation, samples and predictions of the model, for TensorBoard."""

from lightning import LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch.utils.tensorboard import SummaryWriter

from lm.config.checks import above_zero, at_least
from lm.data.corpus import Corpus
from lm.data.datamodule import TextDataModule
from lm.language_model import LanguageModel
from lm.models.attention_weights import has_attention
from lm.plots import attention_maps, log_prob_heat_map, surprisal_text
from lm.training.callbacks.fail_safe import FailSafe
from lm.training.loggers import tensorboard
from lm.training.module import LitLanguageModel

SEARCHED = 2_000  # tokens at the beginning of the validation text
MANY = 10  # different words


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
    """Logs the log-probabilities at the first `words` words of the first `lines` sentences of the validation text."""

    def __init__(self, lines: int, words: int) -> None:
        at_least(1, lines=lines, words=words)
        self.lines = lines
        self.words = words

    def show(self, model: LanguageModel, data: TextDataModule, writer: SummaryWriter, step: int) -> None:
        words = [line[: self.words] for line in sentences(data.corpus)[: self.lines]]
        log_probs = [model.log_probs(" ".join(line), eos=False) for line in words]
        figure = log_prob_heat_map(log_probs, list(map(model.vocabulary.encode, words)), words)
        writer.add_figure("samples/log_prob", figure, step)


class SurprisalText(ValidationSample):
    """Logs a sentence of the validation text shaded by surprisal, and a Transformer's attention to it.

    The `top` most probable words are listed below each of its first `words` words.
    """

    def __init__(self, words: int, top: int) -> None:
        at_least(1, words=words)
        at_least(0, top=top)
        self.words = words
        self.top = top

    def show(self, model: LanguageModel, data: TextDataModule, writer: SummaryWriter, step: int) -> None:
        words = sentences(data.corpus)[0][: self.words]
        figure = surprisal_text([model.score(" ".join(words), self.top, eos=False)])
        writer.add_figure("samples/surprisal", figure, step)
        if has_attention(model.model):
            most = model.model.core.context or len(words) + 1
            read, weights = model.attention(" ".join(words[: most - 1]))
            writer.add_figure("samples/attention", attention_maps(weights, read), step)


def sentences(corpus: Corpus) -> list[list[str]]:
    """The words of the first lines of the validation text, those with many different words first.

    A text may begin with titles and rows of asterisks, which show little of a model.
    """
    ids = corpus.valid[:SEARCHED]
    ends = (ids == corpus.vocabulary.eos_id).nonzero().flatten() + 1
    lines = [line[line != corpus.vocabulary.eos_id] for line in ids.tensor_split(ends)]
    lines = [line for line in lines if len(line)] or [ids[:1]]
    lines.sort(key=lambda line: -min(len(line.unique()), MANY))  # keeps the order of those with as many
    return list(map(corpus.vocabulary.decode, lines))
