"""How the next word is drawn: from which part of the distribution, and how far from its peak."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lm.config.checks import above_zero, at_least
from lm.errors import UserError


@dataclass(frozen=True)
class Sampling:
    """The temperature first, then the truncations, each of what the one before it has left.

    Args:
        temperature: divides the log-probabilities: below 1 for likelier words, above 1 for more varied ones.
        top_k: draw from this many likeliest words; None draws from all.
        top_p: draw from the fewest likeliest words that have this probability together (Holtzman et al. 2020).
        min_p: draw from the words that have at least this share of the likeliest word's probability
            (Nguyen et al. 2024).

    Raises:
        UserError: if a value is out of range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None

    def __post_init__(self) -> None:
        above_zero(temperature=self.temperature)
        at_least(1, top_k=self.top_k)
        for name in ("top_p", "min_p"):
            share = getattr(self, name)
            if share is not None and not 0 < share <= 1:
                raise UserError(f"{name}={share} given, but it must be above 0 and at most 1.")

    def draw(self, log_probs: Tensor, uniform: Tensor) -> Tensor:
        """Draw one word for each row of `[B, V]`, with numbers `[B]` that are uniform in [0, 1): `[B]`.

        By inverting the cumulative distribution, with one random number a row; torch.multinomial draws V of them.
        """
        scores = log_probs.float()
        # a temperature below the least normal number would make 0 / 0 of the likeliest word's score
        temperature = max(self.temperature, torch.finfo(scores.dtype).tiny)
        scores = (scores - scores.amax(-1, keepdim=True)).div_(temperature)
        scores, words = self._truncated(scores)
        cumulative = scores.exp_().cumsum(-1, dtype=torch.float64)  # in fp32 the rarest words would vanish beside 1
        total = cumulative[:, -1:]
        # a product that rounds up to the total would lie beyond the last word
        point = torch.minimum(uniform[:, None] * total, total.nextafter(torch.zeros_like(total)))
        drawn = torch.searchsorted(cumulative, point, right=True)
        return (drawn if words is None else words.gather(-1, drawn)).squeeze(-1)

    def _truncated(self, scores: Tensor) -> tuple[Tensor, Tensor | None]:
        """The scores, -inf where not to be drawn, and the words they belong to; None for the vocabulary's order."""
        words = None
        size = scores.size(-1)
        if self.top_p is not None or (self.top_k or size) < size:
            scores, words = scores.topk(min(self.top_k or size, size))
        if self.top_p is not None:
            probs = scores.softmax(-1)
            before = probs.cumsum(-1) - probs
            scores = scores.masked_fill(before >= self.top_p, -math.inf)
        if self.min_p is not None:
            scores = scores.masked_fill(scores < math.log(self.min_p), -math.inf)
        return scores, words
