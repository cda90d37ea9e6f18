"""What may not be written, or less gladly, whatever the model says."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lm.config.checks import at_least


@dataclass(frozen=True)
class LogitsProcessor:
    """Changes to the log-probabilities of the next word, in view of the words before it.

    Args:
        banned: the number of a word that is never written, such as that of `<unk>`.
        repetition_penalty: multiplies the log-probability of every word that has come already (Keskar et al. 2019):
            above 1 for less of the same.
        no_repeat_ngram: no sequence of this many words comes twice (Paulus et al. 2018); a text that no word can go on
            so has come to its end.

    Raises:
        UserError: if a value is out of range.
    """

    banned: int | None = None
    repetition_penalty: float = 1.0
    no_repeat_ngram: int | None = None

    def __post_init__(self) -> None:
        at_least(1, repetition_penalty=self.repetition_penalty, no_repeat_ngram=self.no_repeat_ngram)

    @property
    def look_back(self) -> bool:
        """Whether the words before matter."""
        return self.repetition_penalty != 1 or self.no_repeat_ngram is not None

    def apply(self, log_probs: Tensor, history: Tensor) -> Tensor:
        """Scores of the next word for its log-probabilities `[B, V]`, after the words `[B, T]`; -inf for never."""
        if self.repetition_penalty != 1:
            log_probs = log_probs.scatter(1, history, log_probs.gather(1, history) * self.repetition_penalty)
        if self.banned is not None:
            log_probs = log_probs.index_fill(1, torch.tensor([self.banned], device=log_probs.device), -math.inf)
        if self.no_repeat_ngram is not None and history.size(1) >= self.no_repeat_ngram:
            log_probs = log_probs.masked_fill(self._would_repeat(log_probs, history, self.no_repeat_ngram), -math.inf)
        return log_probs

    def _would_repeat(self, log_probs: Tensor, history: Tensor, size: int) -> Tensor:
        """The words `[B, V]` that would complete a sequence of `size` words that has come already."""
        sequences = history.unfold(1, size, 1)
        begun = history[:, None, history.size(1) - size + 1 :]
        again = (sequences[..., :-1] == begun).all(-1)
        repeated = torch.zeros_like(log_probs, dtype=torch.int8)
        return repeated.scatter_reduce(1, sequences[..., -1], again.to(torch.int8), "amax").bool()


@dataclass(frozen=True)
class StoppingCriterion:
    """The end of a text: when words of a kind have come so many times.

    Args:
        words: the numbers of the words that count.
        count: how many of them make the end.
    """

    words: Tensor
    count: int

    def reached(self, written: Tensor) -> Tensor:
        """Which of the texts `[B, T]` have come to their end, `[B]`."""
        return torch.isin(written, self.words.to(written.device)).sum(1) >= self.count


def stuck(scores: Tensor) -> Tensor:
    """Which of the texts have no word left that may be written, `[B]`, by the scores of their next one, `[B, V]`."""
    return scores.amax(1).isneginf()


def at_end(stops: Sequence[StoppingCriterion], written: Tensor) -> Tensor:
    """Which of the texts `[B, T]` any of the stops ends, `[B]`."""
    ended = written.new_zeros(len(written), dtype=torch.bool)
    for stop in stops:
        ended |= stop.reached(written)
    return ended
