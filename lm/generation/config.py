"""How a text is to be written, in the words of a user."""

from dataclasses import dataclass, fields

from lm.config.checks import at_least
from lm.data.vocabulary import EOS, Vocabulary
from lm.errors import UserError
from lm.generation.logits_processors import LogitsProcessor, StoppingCriterion
from lm.generation.sampling import Sampling

SENTENCE_ENDS = (".", "!", "?")
FOR_SAMPLES = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")  # what a beam search does not use


@dataclass(frozen=True)
class GenerationConfig:
    """The options of a text.

    Args:
        words: the most words to write.
        num_samples: texts, made side by side; of a beam search the best ones.
        seed: of the draws; None takes a new one each time. The second text of `seed=7` is the first one of `seed=8`.
        temperature: see `lm.generation.sampling.Sampling`.
        top_k: see `lm.generation.sampling.Sampling`.
        top_p: see `lm.generation.sampling.Sampling`.
        min_p: see `lm.generation.sampling.Sampling`.
        repetition_penalty: see `lm.generation.logits_processors.LogitsProcessor`.
        no_repeat_ngram: see `lm.generation.logits_processors.LogitsProcessor`.
        unk: whether `<unk>` may be written.
        lines: end a text after this many lines, each an `<eos>`; None goes on.
        sentences: end a text after this many of SENTENCE_ENDS; None goes on.
        beams: above 1: the likeliest texts that a beam of this width finds, in the place of samples.
        length_penalty: see `lm.generation.beam_search`.

    Raises:
        UserError: if a value is out of range, or makes no sense beside another.
    """

    words: int = 100
    num_samples: int = 1
    seed: int | None = None
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    no_repeat_ngram: int | None = None
    unk: bool = True
    lines: int | None = None
    sentences: int | None = None
    beams: int = 1
    length_penalty: float = 0.0

    def __post_init__(self) -> None:
        at_least(0, words=self.words, seed=self.seed, length_penalty=self.length_penalty)
        at_least(1, num_samples=self.num_samples, lines=self.lines, sentences=self.sentences, beams=self.beams)
        _ = self.sampling, self.constraints(None)  # which check their own values
        if self.beams > 1:
            self._check_beams()
        elif self.length_penalty:
            raise UserError(f"length_penalty={self.length_penalty} given, but it is for beams: set them, too.")

    @property
    def sampling(self) -> Sampling:
        """How words are drawn."""
        return Sampling(self.temperature, self.top_k, self.top_p, self.min_p)

    def constraints(self, unk_id: int | None) -> LogitsProcessor:
        """What may not be written, where `<unk>` has the number `unk_id`."""
        return LogitsProcessor(None if self.unk else unk_id, self.repetition_penalty, self.no_repeat_ngram)

    def stops(self, vocabulary: Vocabulary) -> list[StoppingCriterion]:
        """What ends a text.

        Raises:
            UserError: if sentences are to be counted and the vocabulary has nothing that ends one.
        """
        sentence_ends = [end for end in SENTENCE_ENDS if end in vocabulary]
        if self.sentences is not None and not sentence_ends:
            raise UserError(f"sentences={self.sentences} given, but the vocabulary has none of {SENTENCE_ENDS}.")
        wanted = ([EOS], self.lines), (sentence_ends, self.sentences)
        return [StoppingCriterion(vocabulary.encode(ends), count) for ends, count in wanted if count is not None]

    def _check_beams(self) -> None:
        defaults = {field.name: field.default for field in fields(self)}
        for name in FOR_SAMPLES:
            if getattr(self, name) != defaults[name]:
                raise UserError(
                    f"{name}={getattr(self, name)} with beams={self.beams} given, but a beam search compares the "
                    "model's own log-probabilities: leave one of them out."
                )
        if self.num_samples > self.beams:
            raise UserError(f"num_samples={self.num_samples} given, but it must be at most beams={self.beams}.")
        if self.words < 1:
            raise UserError(f"words={self.words} given, but with beams it must be at least 1.")
