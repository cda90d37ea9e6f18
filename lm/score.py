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
    characters: int = 0  # of the line as it was given, see `characters`

    @property
    def log_prob(self) -> float:
        """The log-probability of the whole line in nats: the chain rule's sum."""
        return sum(self.log_probs)

    @property
    def perplexity(self) -> float:
        """Per scored word; NaN for an empty line of which nothing is scored."""
        return perplexity(-self.log_prob / len(self.words)) if self.words else math.nan

    @property
    def unknown(self) -> list[str]:
        """The words that were scored as `<unk>`."""
        return [word for word, known in zip(self.words, self.known, strict=True) if not known]

    def first(self, count: int) -> "Score":
        """That of the first `count` words."""
        return Score(*(getattr(self, name)[:count] for name in PER_WORD))

    def __add__(self, other: "Score") -> "Score":
        """That of these words and those of `other`, which follow them."""
        return Score(*(getattr(self, name) + getattr(other, name) for name in PER_WORD))


PER_WORD = ("words", "known", "log_probs", "ranks", "top_log_probs")


def characters(line: str, eos: bool = True) -> int:
    """The number of characters of a line's words, with a space between them and, with `eos`, the line's end."""
    return len(" ".join(word for word in line.split() if word != EOS)) + eos
