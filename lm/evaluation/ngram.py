"""Interpolated modified Kneser-Ney n-grams (Chen and Goodman 1999, "An Empirical Study of Smoothing Techniques").

p(w | h) = (c(h w) - D(c(h w))) / c(h) + γ(h) p(w | h'), γ(h) = Σ_w D(c(h w)) / c(h), h' = h without its first word,

where c counts occurrences for the highest order, and different words before h w for the others; the empty context is
interpolated with the uniform distribution.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lm.config.checks import at_least

DISCOUNTS = (0.5, 1.0, 1.5)  # of counts of 1, 2 and 3 or more, where a text is too small to estimate them (as KenLM's)


class Order(NamedTuple):
    """The G k-grams of a text, which follow C contexts of k - 1 words. Ids are indices; -1 is one that is not there.

    Attributes:
        keys: `[G]`, sorted: the context's id times V, plus the word.
        probs: `[G + 1]`, the discounted probabilities; 0 for -1.
        backoffs: `[C + 1]`, the weight γ of the next lower order after each context; 1 for -1.
    """

    keys: np.ndarray
    probs: np.ndarray
    backoffs: np.ndarray


@dataclass(frozen=True)
class NGram:
    """A trained n-gram model: its orders from 1 to n."""

    orders: list[Order]
    vocabulary_size: int

    def log_probs(self, text: np.ndarray, eos_id: int) -> np.ndarray:
        """Each word's log-probability in nats after the n - 1 words before it, `[N]`; `<eos>` precedes the text."""
        padded = np.concatenate([np.full(len(self.orders) - 1, eos_id), text])
        # of the k-grams that end at each word, from k = 0 on
        ids = np.zeros(len(padded) + 1, np.int64)
        probs = np.full(len(padded) + 1, 1 / self.vocabulary_size)
        for k, order in enumerate(self.orders):
            contexts = ids[:-1]
            keys = contexts * self.vocabulary_size + padded[k:]
            ids = np.searchsorted(order.keys, keys)
            ids[order.keys.take(ids, mode="clip") != keys] = -1
            probs = order.probs[ids] + order.backoffs[contexts] * probs[1:]
        return np.log(probs)


@dataclass(frozen=True)
class KneserNey:
    """Estimates n-grams.

    Args:
        order: n, the number of words in an n-gram, the predicted one included.
    """

    order: int

    def __post_init__(self) -> None:
        at_least(1, order=self.order)

    @property
    def name(self) -> str:
        return f"{self.order}-gram"

    def train(self, text: np.ndarray, vocabulary_size: int) -> NGram:
        """Count the n-grams of a text of ids `[N]`, read as one stream: contexts cross `<eos>`."""
        ids = np.zeros(len(text) + 1, np.int64)  # of the k-grams that end at each word, from k = 0 on
        keys: list[np.ndarray] = []
        counts: list[np.ndarray] = []
        for k in range(min(self.order, len(text))):
            found = ids[:-1] * vocabulary_size + text[k:]
            unique, first, inverse, occurrences = np.unique(
                found, return_index=True, return_inverse=True, return_counts=True
            )
            if k:  # the lower order counts the different words before each of its k-grams instead
                counts[-1] = np.bincount(ids[first + 1], minlength=len(keys[-1]))
            keys.append(unique)
            counts.append(occurrences)
            ids = inverse
        contexts = [1, *map(len, keys[:-1])]
        tables = zip(keys, counts, contexts, strict=True)
        return NGram([_order(*table, vocabulary_size) for table in tables], vocabulary_size)


def _order(keys: np.ndarray, counts: np.ndarray, num_contexts: int, vocabulary_size: int) -> Order:
    """Discount the counts `[G]` and normalise them after each context."""
    discounts = modified_discounts(counts)[np.minimum(counts, 3)]
    contexts = keys // vocabulary_size
    totals = np.bincount(contexts, counts, num_contexts)
    never = totals == 0  # the text's last words, which nothing follows, or its first, which nothing precedes
    totals[never] = 1
    probs = (counts - discounts) / totals[contexts]
    backoffs = np.where(never, 1, np.bincount(contexts, discounts, num_contexts) / totals)
    return Order(keys, np.append(probs, 0), np.append(backoffs, 1))


def modified_discounts(counts: np.ndarray) -> np.ndarray:
    """D(0) = 0, D(1), D(2), D(3+): estimated from n₁ … n₄, the number of n-grams with each count."""
    n = np.bincount(np.minimum(counts, 5), minlength=6)
    discounts = list(DISCOUNTS)
    if n[1:5].all():
        y = n[1] / (n[1] + 2 * n[2])
        estimated = [count - (count + 1) * y * n[count + 1] / n[count] for count in (1, 2, 3)]
        discounts = estimated if min(estimated) >= 0 else discounts
    return np.array([0, *discounts])
