"""Kneser-Ney n-grams equal the definition, are normalised, and are aligned with the tokens that a model scores."""

import math
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from lm.errors import UserError
from lm.evaluation.ngram import DISCOUNTS, KneserNey, modified_discounts

V, EOS_ID = 12, 3


def text_of(length: int, seed: int = 0) -> np.ndarray:
    """Frequent words and rare ones; the last two of the vocabulary never."""
    return np.random.default_rng(seed).zipf(1.5, length).clip(max=V - 2).astype(np.int32) - 1


def plain_prob(text: list[int], order: int, context: list[int], word: int) -> float:
    """The definition, with dictionaries."""
    occurrences = [Counter(tuple(text[i : i + k]) for i in range(len(text) - k + 1)) for k in range(order + 1)]

    def counts(k: int) -> Counter:
        if k == order:
            return occurrences[k]
        before = defaultdict(set)
        for first, *rest in occurrences[k + 1]:
            before[tuple(rest)].add(first)
        return Counter({gram: len(words) for gram, words in before.items()})

    def prob(h: tuple[int, ...]) -> float:
        c = counts(len(h) + 1)
        n = [sum(count == i for count in c.values()) for i in range(5)]
        d = list(DISCOUNTS)
        if min(n[1:]) > 0:
            y = n[1] / (n[1] + 2 * n[2])
            estimated = [1 - 2 * y * n[2] / n[1], 2 - 3 * y * n[3] / n[2], 3 - 4 * y * n[4] / n[3]]
            d = estimated if min(estimated) >= 0 else d
        lower = prob(h[1:]) if h else 1 / V
        after = {gram[-1]: count for gram, count in c.items() if gram[:-1] == h}
        if not after:
            return lower
        discounts = {each: d[min(count, 3) - 1] for each, count in after.items()}
        own = after.get(word, 0) - discounts.get(word, 0)
        return (own + sum(discounts.values()) * lower) / sum(after.values())

    return prob(tuple(context))


@pytest.mark.parametrize(("order", "length"), [(1, 200), (2, 200), (3, 200), (4, 60), (3, 2)])
def test_log_probs_equal_the_definition_with_dictionaries(order, length):
    text, scored = text_of(length), text_of(40, seed=1)
    log_probs = KneserNey(order).train(text, V).log_probs(scored, EOS_ID)
    padded = [EOS_ID] * (order - 1) + scored.tolist()
    order = min(order, length)
    for i in (0, 1, 2, *range(3, 40, 6)):
        end = len(padded) - len(scored) + i
        expected = plain_prob(text.tolist(), order, padded[end - order + 1 : end], scored[i])
        assert log_probs[i] == pytest.approx(math.log(expected))


@pytest.mark.parametrize("order", [1, 2, 5])
def test_probabilities_sum_to_one_after_seen_and_unseen_contexts(order):
    text = text_of(300)
    model = KneserNey(order).train(text, V)
    unseen = [[V - 1] * 4, [0, 0, V - 1, 0], [V - 1, 0, 1, 0]]
    for context in (*(text[i : i + 4].tolist() for i in (0, 50, 296)), *unseen):
        log_probs = [model.log_probs(np.array([*context, word]), EOS_ID)[-1] for word in range(V)]
        assert np.exp(log_probs).sum() == pytest.approx(1)


def test_discounts_are_estimated_from_the_counts_of_counts():
    counts = np.repeat([1, 2, 3, 4, 9], [8, 4, 2, 1, 5])
    y = 8 / 16
    assert modified_discounts(counts) == pytest.approx([0, 1 - 2 * y * 4 / 8, 2 - 3 * y * 2 / 4, 3 - 4 * y * 1 / 2])
    assert modified_discounts(np.array([1, 1, 2])) == pytest.approx([0, *DISCOUNTS])


def test_an_order_of_zero_is_refused():
    with pytest.raises(UserError, match="order=0 given, but it must be at least 1"):
        KneserNey(0)


@pytest.mark.slow
def test_5_grams_reach_the_published_perplexity_on_wikitext2(wikitext2: Path):
    """219 on the test split."""
    texts = [
        [word for line in (wikitext2 / f"{split}.txt").read_text("utf-8").splitlines() for word in (*line.split(), "")]
        for split in ("train", "test")
    ]
    id_of = {word: i for i, word in enumerate(dict.fromkeys(texts[0]))}
    train, test = (np.array([id_of[word] for word in text]) for text in texts)
    log_probs = KneserNey(5).train(train, len(id_of)).log_probs(test, id_of[""])
    assert len(log_probs) == 245_569
    assert math.exp(-log_probs.mean()) == pytest.approx(219, abs=3)
