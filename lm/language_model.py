"""The public API, in terms of text: load a trained model, score texts, generate."""

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from lm.checkpoints import checkpoint
from lm.checkpoints.find import find_checkpoint
from lm.checkpoints.pretrained import read_folder
from lm.config.checks import at_least, one_of
from lm.config.validation import check_arguments
from lm.data.tokenize import was_tokenized
from lm.data.vocabulary import EOS, Vocabulary, describe_unknown, words_of_line
from lm.errors import UserError
from lm.evaluation.perplexity import perplexity
from lm.files.text import lines_of_text, split_lines
from lm.generation.beam_search import beam_search
from lm.generation.config import GenerationConfig
from lm.generation.incremental import CHUNK, IncrementalDecoder
from lm.generation.sampling import FINISHED, generate_ids
from lm.models import CausalLM
from lm.models.attention_weights import attention_weights
from lm.score import Score, characters

if TYPE_CHECKING:
    from lm.plots import SurprisalText

CONTEXTS = ("line", "document")
DEFAULT = GenerationConfig()


class LanguageModel:
    """A CausalLM in evaluation mode, its vocabulary, and the config of the run that trained it.

    Generating methods take a GenerationConfig, its fields as keyword arguments, or both; keyword arguments take
    precedence. Lines of a prompt end with `<eos>`, as in a corpus. Words that the model does not know, see `unknown`,
    are read and scored as `<unk>`; `log_prob`, `perplexity`, `next_words` and `generate` warn of them.

    Args:
        model: maps token ids to log-probabilities.
        vocabulary: the words of these ids.
        config: of the run that trained the model.
        tokenize: whether texts and prompts are tokenised, as by `lm.data.tokenize`, or else are words separated by
            white space; None for what the model was trained on.
        path: of the checkpoint or exported folder, if it was loaded from one.
    """

    def __init__(
        self,
        model: CausalLM,
        vocabulary: Vocabulary,
        config: dict[str, Any] | None = None,
        tokenize: bool | None = None,
        path: Path | None = None,
    ) -> None:
        self.model = model.eval()
        self.vocabulary = vocabulary
        self.config = config or {}
        self.tokenize = was_tokenized(self.config.get("data")) if tokenize is None else tokenize
        self.path = path

    @classmethod
    def load(cls, path: str | Path, tokenize: bool | None = None) -> "LanguageModel":
        """The model of a checkpoint, an exported folder or a run, on the CPU; `path` as in the scripts' `ckpt=`."""
        path = find_checkpoint(path)
        stored = read_folder(path) if path.is_dir() else checkpoint.load(path)
        return cls(checkpoint.build_model(stored), stored.vocabulary, stored.config, tokenize, path)

    def __repr__(self) -> str:
        core, words = type(self.model.core).__name__, len(self.vocabulary)
        return f"LanguageModel({core}, {words:,} words, {self.num_parameters:,} parameters, {self.device})"

    @property
    def num_parameters(self) -> int:
        """Tied weights count once."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    def to(self, device: str | torch.device) -> Self:
        """Move the weights to a device, and return this model."""
        self.model.to(device)
        return self

    def words_of(self, text: str) -> list[str]:
        """The words of a text, with `<eos>` at each line's end."""
        return words_of(text, self.tokenize)

    def words_of_line(self, line: str, eos: bool = True) -> list[str]:
        """The words of a line and, with `eos`, its end."""
        return words_of_line(line, eos, self.tokenize)

    def unknown(self, text: str) -> list[str]:
        """The words of `text`, in order, that the model sees only as `<unk>`."""
        return [word for word in self.words_of(text) if word not in self.vocabulary]

    def log_prob(self, text: str, eos: bool = True) -> float:
        """The log-probability of a text in nats: the sum over its non-blank lines, each scored independently."""
        scores = [self.score(line, eos=eos) for line in split_lines(text) if line.strip()]
        warn_of_unknown([word for score in scores for word in score.unknown])
        return math.fsum(score.log_prob for score in scores)

    def perplexity(self, text: str, eos: bool = True, context: str = "line") -> float:
        """Per word, and with `eos` end of line, of a text, scored as by `score_lines`; NaN if it has none."""
        lines = lines_of_text(text)
        scores = list(self.score_lines(lines, eos=eos, context=context))
        warn_of_unknown([word for score in scores for word in score.unknown])
        words = sum(len(score.words) for score in scores)
        return perplexity(-sum(score.log_prob for score in scores) / words) if words else math.nan

    def score(self, line: str, top: int = 0, eos: bool = True, earlier: Score | None = None) -> Score:
        """Score the words of a line and, with `eos`, its end; list the `top` most probable for each.

        The scores of the prefix that it has in common with an `earlier` score, which must have the same `top`, are
        kept, so that only new words are computed.
        """
        at_least(0, top=top)
        words = self.words_of_line(line, eos)
        if earlier is None or not (shared := common_prefix_length(earlier.words, words)):
            scored = self._score(IncrementalDecoder(self.model, 1), words, top)
        else:
            decoder = IncrementalDecoder.prefill(self.model, self._encode(words[: shared - 1]), 1)
            scored = earlier.first(shared) + self._score(decoder, words[shared:], top, words[shared - 1])
        return replace(scored, characters=characters(line, eos))

    def score_lines(
        self, lines: Iterable[str], top: int = 0, eos: bool = True, context: str = "line"
    ) -> Iterator[Score]:
        """Score lines as they come.

        Args:
            lines: of a text.
            top: the number of most probable words to list at each position.
            eos: whether to score the end of each line.
            context: of a word: "line" for the words before it in its line, and blank lines are left out; "document" for
                all lines before it, too, as in evaluation, where a blank line is its end.
        """
        one_of(CONTEXTS, context=context)
        at_least(0, top=top)
        decoder = IncrementalDecoder(self.model, 1)
        for line in lines:
            if context == "document":  # the next line follows this one's end, whether that is scored or not
                scored = self._score(decoder, self.words_of_line(line), top).first(len(self.words_of_line(line, eos)))
                yield replace(scored, characters=characters(line, eos))
            elif line.strip():
                yield self.score(line, top, eos)

    def _score(self, decoder: IncrementalDecoder, words: list[str], top: int, last: str = EOS) -> Score:
        """Score words that follow the word `last` and, before it, what a decoder has read."""
        log_probs, ranks, top_log_probs = [], [], []
        for targets, rows in self._decode_line(decoder, words, last):
            given = rows.gather(1, targets[:, None])
            log_probs += given.squeeze(1).tolist()
            ranks += (rows > given).sum(1).add(1).tolist()
            highest, ids = rows.topk(min(top, len(self.vocabulary)))
            top_log_probs += [
                list(zip(self.vocabulary.decode(i), each, strict=True))
                for i, each in zip(ids, highest.tolist(), strict=True)
            ]
        return Score(words, [word in self.vocabulary for word in words], log_probs, ranks, top_log_probs)

    def log_probs(self, line: str, eos: bool = True) -> Tensor:
        """The log-probability in nats of every word of the vocabulary at each position of a line, `[T, V]`."""
        words = self.words_of_line(line, eos)
        decoder = IncrementalDecoder(self.model, 1)
        parts = (rows for _, rows in self._decode_line(decoder, words))
        return torch.cat([torch.empty(0, len(self.vocabulary)), *parts])

    def next_words(self, text: str = "", k: int = 10) -> list[tuple[str, float]]:
        """The `k` most probable words after a text, each with its probability."""
        at_least(1, k=k)
        warn_of_unknown(self.unknown(text))
        ids = self._encode(self.words_of(text))
        decoder = IncrementalDecoder.prefill(self.model, ids[:-1], 1)
        return self._top(decoder.decode(ids[-1:, None])[0, 0].float().exp(), k)

    def similar_words(self, word: str, k: int = 10) -> list[tuple[str, float]]:
        """The `k` other words whose vectors have the highest cosine similarity with that of `word`, each with it.

        Raises:
            UserError: the vocabulary does not have `word`.
        """
        at_least(1, k=k)
        if word not in self.vocabulary:
            raise UserError(f"word={word} given, but it is not in the vocabulary: give another.")
        with torch.inference_mode():
            vectors = self.model.embedding(torch.arange(len(self.vocabulary), device=self.device)[:, None])[:, 0]
            similarity = cosine_similarity(vectors, vectors[self.vocabulary.id_of(word)], dim=-1)
        return [pair for pair in self._top(similarity, k + 1) if pair[0] != word][:k]

    def plot(self, text: str, top: int = 10, eos: bool = True) -> "SurprisalText":
        """The text shaded by surprisal, with the `top` most probable words at each: shown by a notebook, or to save."""
        from lm.plots import SurprisalText  # matplotlib takes a third of a second to import

        return SurprisalText([self.score(line, top, eos) for line in split_lines(text) if line.strip()])

    def attention(self, line: str) -> tuple[list[str], Tensor]:
        """The words read to score a line, and a Transformer's attention to them, `[layers, heads, T, T]`."""
        words = self.words_of_line(line, eos=False)
        return [EOS, *words], attention_weights(self.model, self._encode(words)[:, None])[:, 0].cpu()

    def stream(
        self, prompt: str = "", config: GenerationConfig = DEFAULT, **options: Any
    ) -> Iterator[list[str | None]]:
        """Yield the next word of each sample as it is drawn; None for a finished sample while others continue."""
        config = self._configured(config, options)
        if (beams := config.num_beams) > 1:
            raise UserError(f"num_beams={beams} given, but a beam search does not yield word by word: use generate.")
        for ids in generate_ids(self.model, self._encode(self.words_of(prompt)), config, self.vocabulary):
            yield [self.vocabulary.words[i] if i != FINISHED else None for i in ids.tolist()]

    def generate(self, prompt: str = "", config: GenerationConfig = DEFAULT, **options: Any) -> list[str]:
        """Texts that begin with `prompt`: samples or, with `num_beams`, the most probable ones of a beam search."""
        config = self._configured(config, options)
        warn_of_unknown(self.unknown(prompt))
        if config.num_beams > 1:
            return [text for text, _ in self.beam_search(prompt, config)]
        steps = list(self.stream(prompt, config))
        texts = zip(*steps, strict=True) if steps else [()] * config.num_samples
        return ["".join(pieces([*self.words_of(prompt), *filter(None, text)])) for text in texts]

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
        config, words = self._configured(config, options), self.words_of(prompt)
        if (beams := config.num_beams) > len(self.vocabulary):
            raise UserError(f"num_beams={beams} given, but the vocabulary has {len(self.vocabulary)} words: use fewer.")
        found = beam_search(self.model, self._encode(words), config, self.vocabulary, interruptible)
        return [("".join(pieces([*words, *self.vocabulary.decode(each.ids)])), each.log_prob) for each in found]

    @staticmethod
    def _configured(config: GenerationConfig, options: dict[str, Any]) -> GenerationConfig:
        check_arguments(GenerationConfig, options)
        return replace(config, **options)

    def _top(self, values: Tensor, k: int) -> list[tuple[str, float]]:
        """The words of the `k` highest of the vocabulary's values, `[V]`, each with its own."""
        highest, ids = values.topk(min(k, len(self.vocabulary)))
        return list(zip(self.vocabulary.decode(ids), highest.tolist(), strict=True))

    def _encode(self, words: list[str]) -> Tensor:
        """The token ids `[1 + T]` of words that follow `<eos>`."""
        return self.vocabulary.encode([EOS, *words]).to(self.device)

    def _decode_line(
        self, decoder: IncrementalDecoder, words: list[str], last: str = EOS
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Targets `[T]` and log-probabilities `[T, V]` of words that follow `last`, chunk by chunk."""
        ids = self.vocabulary.encode([last, *words]).to(self.device)
        for inputs, targets in zip(ids[:-1].split(CHUNK), ids[1:].split(CHUNK), strict=True):
            if len(targets):
                yield targets.cpu(), decoder.decode(inputs[:, None]).squeeze(1).float().cpu()


def warn_of_unknown(words: Sequence[str]) -> None:
    """Warn whoever calls the method that calls this of words that the model does not know."""
    if words:
        warnings.warn(describe_unknown(words), stacklevel=3)


def common_prefix_length(first: Sequence[str], second: Sequence[str]) -> int:
    """The length of the common prefix of two lists."""
    return len(list(takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))))


def words_of(text: str, tokenize: bool = False) -> list[str]:
    """The words of a text, with `<eos>` at each line's end; the inverse of `pieces`."""
    *lines, last = split_lines(text)
    ended = [word for line in lines for word in words_of_line(line, tokenize=tokenize)]
    return ended + words_of_line(last, eos=False, tokenize=tokenize)


def pieces(words: Iterable[str]) -> Iterator[str]:
    """Yield the text of words one by one: a space between them, a newline for `<eos>`."""
    space = ""
    for word in words:
        yield "\n" if word == EOS else space + word
        space = "" if word == EOS else " "
