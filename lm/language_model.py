"""A trained model for those who think in words: load it, ask for probabilities, let it write."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lm.checkpoints import checkpoint
from lm.checkpoints.find import find_checkpoint
from lm.checkpoints.pretrained import read_folder
from lm.data.vocabulary import EOS, Vocabulary, words_of_line
from lm.errors import UserError
from lm.evaluation.perplexity import perplexity
from lm.files.text import split_lines
from lm.generation.beam_search import beam_search
from lm.generation.config import GenerationConfig
from lm.generation.incremental import CHUNK, IncrementalDecoder
from lm.generation.sampler import generate_ids
from lm.models import CausalLM
from lm.models.attention_weights import attention_weights


@dataclass(frozen=True)
class Score:
    """What a model thinks of a line: for each word its log-probability in nats, given all words before it.

    Attributes:
        words: as they were given, with `<eos>` at the end if it was scored.
        known: whether the vocabulary has the word; if not, the log-probability is that of `<unk>`.
        log_probs: in nats.
        likeliest: for each position the model's own first choices, as pairs of word and log-probability.
    """

    words: list[str]
    known: list[bool]
    log_probs: list[float]
    likeliest: list[list[tuple[str, float]]]

    @property
    def log_prob(self) -> float:
        """The log-probability of the whole line in nats: the chain rule's sum."""
        return sum(self.log_probs)

    @property
    def perplexity(self) -> float:
        """Per scored word; NaN for an empty line of which nothing is scored."""
        return perplexity(-self.log_prob / len(self.words)) if self.words else math.nan


class LanguageModel:
    """A CausalLM and its vocabulary.

    Args:
        model: the network; it is put into evaluation mode.
        vocabulary: its words.
        config: of the run that trained it.
    """

    def __init__(self, model: CausalLM, vocabulary: Vocabulary, config: dict[str, Any] | None = None) -> None:
        self.model = model.eval()
        self.vocabulary = vocabulary
        self.config = config or {}

    @classmethod
    def load(cls, path: str | Path) -> "LanguageModel":
        """The model of a checkpoint, of a folder that scripts/export.py has written, or of a run, on the CPU.

        `path` is what `ckpt=` may be in the scripts; see `lm.checkpoints.find`.

        Raises:
            UserError: if it is missing, damaged, refused, or not of this project.
        """
        path = find_checkpoint(path)
        stored = read_folder(path) if path.is_dir() else checkpoint.load(path)
        return cls(checkpoint.build_model(stored), stored.vocabulary, stored.config)

    def unknown(self, text: str) -> list[str]:
        """The words of `text`, in order, that the model sees only as `<unk>`."""
        return [word for word in words_of(text) if word not in self.vocabulary]

    def log_prob(self, text: str, eos: bool = True) -> float:
        """The log-probability of a text in nats: the sum over its lines, each scored by itself, without blank ones."""
        return sum(self.score(line, eos=eos).log_prob for line in split_lines(text) if line.strip())

    def score(self, line: str, top: int = 0, eos: bool = True) -> Score:
        """Score a line of words separated by white space.

        Args:
            line: the words.
            top: how many of the model's own first choices to name at each position.
            eos: whether the line's end is scored, too, as it is in a corpus.
        """
        words = words_of_line(line, eos)
        log_probs, likeliest = [], []
        for targets, rows in self._read_line(words):
            log_probs += rows.gather(1, targets[:, None]).squeeze(1).tolist()
            values, ids = rows.topk(min(top, len(self.vocabulary)))
            names = map(self.vocabulary.decode, ids)
            likeliest += [list(zip(*pair, strict=True)) for pair in zip(names, values.tolist(), strict=True)]
        return Score(words, [word in self.vocabulary for word in words], log_probs, likeliest)

    def log_probs(self, line: str, eos: bool = True) -> Tensor:
        """The log-probability in nats of every word of the vocabulary at each position of a line, `[T, V]`."""
        words = words_of_line(line, eos)
        return torch.cat([torch.empty(0, len(self.vocabulary)), *(rows for _, rows in self._read_line(words))])

    def attention(self, line: str) -> tuple[list[str], Tensor]:
        """The words that are read to score a line, and a Transformer's attention to them, `[layers, heads, T, T]`.

        Raises:
            UserError: if the model has no attention, or the line is longer than it looks over.
        """
        words = [EOS, *words_of_line(line, eos=False)]
        weights = attention_weights(self.model, self.vocabulary.encode(words).to(self._device)[:, None])
        return words, weights[:, 0].cpu()

    def stream(self, prompt: str = "", **options: Any) -> Iterator[list[str | None]]:
        """Yield the next word of each sample as it is made; None where a sample has come to its end.

        Args:
            prompt: what all samples begin with; its lines end with `<eos>`, as in a corpus.
            options: see `lm.generation.config.GenerationConfig`.

        Raises:
            UserError: if a value is out of range.
        """
        how = GenerationConfig(**options)
        if how.beams > 1:
            raise UserError(f"beams={how.beams} given, but texts of a beam do not come word by word: use generate.")
        for ids in generate_ids(
            self.model,
            self._prompt(prompt),
            how.words,
            how.sampling,
            how.constraints(self.vocabulary.unk_id),
            how.stops(self.vocabulary),
            how.num_samples,
            how.seed,
        ):
            yield [self.vocabulary.words[i] if i >= 0 else None for i in ids.tolist()]

    def generate(self, prompt: str = "", **options: Any) -> list[str]:
        """Texts that begin with `prompt`; the options are those of `stream`."""
        how = GenerationConfig(**options)
        if how.beams > 1:
            return [text for text, _ in self.likeliest_texts(prompt, **options)]
        steps = list(self.stream(prompt, **options))
        texts = zip(*steps, strict=True) if steps else [()] * how.num_samples
        return [as_text([*words_of(prompt), *(word for word in text if word is not None)]) for text in texts]

    def likeliest_texts(self, prompt: str = "", **options: Any) -> list[tuple[str, float]]:
        """The best `num_samples` texts of a beam search, each with the log-probability of its words in nats.

        Args:
            prompt: what all texts begin with.
            options: those of `lm.generation.config.GenerationConfig` that do not draw.

        Raises:
            UserError: if a value is out of range, or the beam is wider than the vocabulary.
        """
        how = GenerationConfig(**options)
        if how.beams > len(self.vocabulary):
            raise UserError(f"beams={how.beams} given, but the vocabulary has {len(self.vocabulary)} words: use fewer.")
        found = beam_search(
            self.model,
            self._prompt(prompt),
            how.words,
            how.beams,
            how.length_penalty,
            how.constraints(self.vocabulary.unk_id),
            how.stops(self.vocabulary),
        )
        start, best = words_of(prompt), found[: how.num_samples]
        return [(as_text([*start, *self.vocabulary.decode(each.ids)]), each.log_prob) for each in best]

    def _prompt(self, text: str) -> Tensor:
        """The numbers `[T]` of a prompt, in view of `<eos>`."""
        return self.vocabulary.encode([EOS, *words_of(text)]).to(self._device)

    def _read_line(self, words: list[str]) -> Iterator[tuple[Tensor, Tensor]]:
        """Targets `[T]` and log-probabilities `[T, V]`, some positions at a time, the first in view of `<eos>`."""
        ids = self.vocabulary.encode([EOS, *words]).to(self._device)
        reader = IncrementalDecoder(self.model, 1)
        for inputs, targets in zip(ids[:-1].split(CHUNK), ids[1:].split(CHUNK), strict=True):
            if len(targets):
                yield targets.cpu(), reader.read(inputs[:, None]).squeeze(1).float().cpu()

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device


def words_of(text: str) -> list[str]:
    """The words of a text, with `<eos>` where a line ends: what `as_text` undoes."""
    *lines, last = split_lines(text)
    return [word for line in lines for word in words_of_line(line)] + words_of_line(last, eos=False)


def pieces(words: Iterable[str]) -> Iterator[str]:
    """Yield the text of words one by one: a space between them, a new line where `<eos>` stands."""
    space = ""
    for word in words:
        yield "\n" if word == EOS else space + word
        space = "" if word == EOS else " "


def as_text(words: Iterable[str]) -> str:
    """Join the `pieces` of words."""
    return "".join(pieces(words))
