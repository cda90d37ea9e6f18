"""The options of generation, for the command line and Python alike."""

from dataclasses import dataclass

from lm.config.checks import above_zero, at_least
from lm.errors import UserError

SAMPLING_ONLY = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")  # not applicable to beam search


@dataclass(frozen=True)
class GenerationConfig:
    """How to generate texts, with the names of Hugging Face's GenerationConfig where the meaning is the same.

    `max_words` is its `max_new_tokens`, and `num_samples` its `num_return_sequences`. Two differ: `length_penalty` is
    that of Wu et al. 2016, ((5 + T) / 6)^α, with none by default, and `repetition_penalty` multiplies
    log-probabilities, where Keskar et al. 2019 and Hugging Face divide positive logits.
    """

    max_words: int = 100  # the most words of a text, after the prompt
    max_lines: int | None = None  # finish a text after this many `<eos>`
    max_sentences: int | None = None  # finish a text after this many of . ! ?
    num_samples: int = 1  # texts generated in parallel; with beam search, the best ones
    seed: int | None = None  # of the first text, seed + 1 of the second, and so on; None draws a random one
    temperature: float = 1.0  # divides the log-probabilities: below 1 for likelier words, above 1 for more varied ones
    top_k: int | None = None  # sample from the k most probable words
    top_p: float | None = None  # sample from the fewest words with this total probability (Holtzman et al. 2020)
    min_p: float | None = None  # sample from words at least min_p × as probable as the top one (Nguyen et al. 2024)
    repetition_penalty: float = 1.0  # multiplies log-probabilities of words already in the text
    no_repeat_ngram_size: int | None = None  # no n-gram of this size is repeated (Paulus et al. 2018)
    allow_unk: bool = True  # whether `<unk>` may be generated
    num_beams: int = 1  # above 1, search for the most probable texts with a beam of this width, instead of sampling
    length_penalty: float = 0.0  # of beam search: 0 ranks by log-probability; 1 roughly by that per word

    def __post_init__(self) -> None:
        at_least(0, max_words=self.max_words, seed=self.seed, length_penalty=self.length_penalty)
        at_least(1, max_lines=self.max_lines, max_sentences=self.max_sentences, num_samples=self.num_samples)
        at_least(1, top_k=self.top_k, num_beams=self.num_beams)
        at_least(1, repetition_penalty=self.repetition_penalty, no_repeat_ngram_size=self.no_repeat_ngram_size)
        above_zero(temperature=self.temperature)
        for name, value in (("top_p", self.top_p), ("min_p", self.min_p)):
            if value is not None and not 0 < value <= 1:
                raise UserError(f"{name}={value} given, but it must be above 0 and at most 1.")
        if self.num_beams > 1:
            self._check_beams()
        elif self.length_penalty:
            raise UserError(f"length_penalty={self.length_penalty} given, but it is for beams: set num_beams, too.")

    def _check_beams(self) -> None:
        for name in SAMPLING_ONLY:
            if getattr(self, name) != getattr(GenerationConfig, name):  # the default
                raise UserError(
                    f"{name}={getattr(self, name)} with num_beams={self.num_beams} given, but a beam search compares "
                    "the model's own log-probabilities: leave one of them out."
                )
        if self.num_samples > self.num_beams:
            raise UserError(f"num_samples={self.num_samples} given, but it must be at most num_beams={self.num_beams}.")
        if self.max_words < 1:
            raise UserError(f"max_words={self.max_words} given, but with num_beams it must be at least 1.")
