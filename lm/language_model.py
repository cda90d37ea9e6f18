"""The public API, in terms of text: load a trained model, score texts, generate."""

import math
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
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
from lm.generation.sampling import FINISHED, generate_ids
from lm.models import CausalLM
from lm.models.attention_weights import attention_weights

DEFAULT = GenerationConfig()


@dataclass(frozen=True)
class Score:
    """The log-probability in nats of each word of a line, given all words before it."""

    words: list[str]  # as they were given, with `<eos>` at the end if it was scored
    known: list[bool]  # by the vocabulary; if not, the log-probability is that of `<unk>`
    log_probs: list[float]
    top_log_probs: list[list[tuple[str, float]]]  # the `top` most probable words at each position, with theirs

    @property
    def log_prob(self) -> float:
        """The log-probability of the whole line in nats: the chain rule's sum."""
        return sum(self.log_probs)

    @property
    def perplexity(self) -> float:
        """Per scored word; NaN for an empty line of which nothing is scored."""
        return perplexity(-self.log_prob / len(self.words)) if self.words else math.nan


class LanguageModel:
    """A CausalLM in evaluation mode, its vocabulary, and the config of the run that trained it.

    Generating methods take a GenerationConfig, its fields as keyword arguments, or both; keyword arguments take
    precedence. Lines of a prompt end with `<eos>`, as in a corpus.
    """

    def __init__(self, model: CausalLM, vocabulary: Vocabulary, config: dict[str, Any] | None = None) -> None:
        self.model = model.eval()
        self.vocabulary = vocabulary
        self.config = config or {}

    @classmethod
    def load(cls, path: str | Path) -> "LanguageModel":
        """The model of a checkpoint, an exported folder or a run, on the CPU; `path` as in the scripts' `ckpt=`."""
        path = find_checkpoint(path)
        stored = read_folder(path) if path.is_dir() else checkpoint.load(path)
        return cls(checkpoint.build_model(stored), stored.vocabulary, stored.config)

    def unknown(self, text: str) -> list[str]:
        """The words of `text`, in order, that the model sees only as `<unk>`."""
        return [word for word in words_of(text) if word not in self.vocabulary]

    def log_prob(self, text: str, eos: bool = True) -> float:
        """The log-probability of a text in nats: the sum over its non-blank lines, each scored independently."""
        return sum(self.score(line, eos=eos).log_prob for line in split_lines(text) if line.strip())

    def score(self, line: str, top: int = 0, eos: bool = True) -> Score:
        """Score whitespace-separated words and, with `eos`, the end of line; list the `top` most probable for each."""
        words = words_of_line(line, eos)
        log_probs, top_log_probs = [], []
        for targets, rows in self._decode_line(words):
            log_probs += rows.gather(1, targets[:, None]).squeeze(1).tolist()
            values, ids = rows.topk(min(top, len(self.vocabulary)))
            names = map(self.vocabulary.decode, ids)
            top_log_probs += [list(zip(*pair, strict=True)) for pair in zip(names, values.tolist(), strict=True)]
        return Score(words, [word in self.vocabulary for word in words], log_probs, top_log_probs)

    def log_probs(self, line: str, eos: bool = True) -> Tensor:
        """The log-probability in nats of every word of the vocabulary at each position of a line, `[T, V]`."""
        words = words_of_line(line, eos)
        return torch.cat([torch.empty(0, len(self.vocabulary)), *(rows for _, rows in self._decode_line(words))])

    def attention(self, line: str) -> tuple[list[str], Tensor]:
        """The words read to score a line, and a Transformer's attention to them, `[layers, heads, T, T]`."""
        words = words_of_line(line, eos=False)
        return [EOS, *words], attention_weights(self.model, self._encode(words)[:, None])[:, 0].cpu()

    def stream(
        self, prompt: str = "", config: GenerationConfig = DEFAULT, **options: Any
    ) -> Iterator[list[str | None]]:
        """Yield the next word of each sample as it is drawn; None for a finished sample while others continue."""
        config = replace(config, **options)
        if (beams := config.num_beams) > 1:
            raise UserError(f"num_beams={beams} given, but a beam search does not yield word by word: use generate.")
        for ids in generate_ids(self.model, self._encode(words_of(prompt)), config, self.vocabulary):
            yield [self.vocabulary.words[i] if i != FINISHED else None for i in ids.tolist()]

    def generate(self, prompt: str = "", config: GenerationConfig = DEFAULT, **options: Any) -> list[str]:
        """Texts that begin with `prompt`: samples or, with `num_beams`, the most probable ones of a beam search."""
        config = replace(config, **options)
        if config.num_beams > 1:
            return [text for text, _ in self.beam_search(prompt, config)]
        steps = list(self.stream(prompt, config))
        texts = zip(*steps, strict=True) if steps else [()] * config.num_samples
        return ["".join(pieces([*words_of(prompt), *filter(None, text)])) for text in texts]

    def beam_search(
        self,
        prompt: str = "",
        config: GenerationConfig = DEFAULT,
        interruptible: AbstractContextManager[object] | None = None,
        **options: Any,
    ) -> list[tuple[str, float]]:
        """The `num_samples` best texts found, each with the log-probability of its words in nats.

        An exception that `interruptible` suppresses ends the search early, with the best texts so far.
        """
        config, words = replace(config, **options), words_of(prompt)
        if (beams := config.num_beams) > len(self.vocabulary):
            raise UserError(f"num_beams={beams} given, but the vocabulary has {len(self.vocabulary)} words: use fewer.")
        found = beam_search(self.model, self._encode(words), config, self.vocabulary, interruptible)
        return [("".join(pieces([*words, *self.vocabulary.decode(each.ids)])), each.log_prob) for each in found]

    def _encode(self, words: list[str]) -> Tensor:
        """The token ids `[1 + T]` of words that follow `<eos>`."""
        return self.vocabulary.encode([EOS, *words]).to(next(self.model.parameters()).device)

    def _decode_line(self, words: list[str]) -> Iterator[tuple[Tensor, Tensor]]:
        """Targets `[T]` and log-probabilities `[T, V]`, chunk by chunk."""
        ids = self._encode(words)
        decoder = IncrementalDecoder(self.model, 1)
        for inputs, targets in zip(ids[:-1].split(CHUNK), ids[1:].split(CHUNK), strict=True):
            if len(targets):
                yield targets.cpu(), decoder.decode(inputs[:, None]).squeeze(1).float().cpu()


def words_of(text: str) -> list[str]:
    """The words of a text, with `<eos>` at each line's end; the inverse of `pieces`."""
    *lines, last = split_lines(text)
    return [word for line in lines for word in words_of_line(line)] + words_of_line(last, eos=False)


def pieces(words: Iterable[str]) -> Iterator[str]:
    """Yield the text of words one by one: a space between them, a newline for `<eos>`."""
    space = ""
    for word in words:
        yield "\n" if word == EOS else space + word
        space = "" if word == EOS else " "
