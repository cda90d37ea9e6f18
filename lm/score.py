"""What scoring a line yields."""

import math
from dataclasses import dataclass

from lm.data.vocabulary import EOS
from lm.evaluation.perplexity import perplexity


@dataclass(frozen=True)
class Score:
    """The log-probability in nats of each word of a line, given all words before it."""

    words: list[str]  # as they were given, with `<eos>` at the end if it was scored
    known: list[bool]  # by the vocabulary; if not, the log-probability is that of `<unk>`
    log_probs: list[float]
    ranks: list[int]  # 1 for the most probable word
    top_log_probs: list[list[tuple[str, float]]]  # the `top` most probable words at each position, with theirs

    @property
    def log_prob(self) -> float:
        """The log-probability of the whole line in nats: the chain rule's sum."""
        return sum(self.log_probs)

    @property
    def characters(self) -> int:
        """Of the words, with a space or the end of the line after each."""
        return sum(len(word) + 1 for word in self.words if word != EOS) or len(self.words)

    @property
    def perplexity(self) -> float:
        """Per scored word; NaN for an empty line of which nothing is scored."""
        return perplexity(-self.log_prob / len(self.words)) if self.words else math.nan
