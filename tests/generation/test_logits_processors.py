"""Which words are ruled out or penalised, against plain loops."""

import math

import pytest
import torch

from lm.generation.config import GenerationConfig
from lm.generation.logits_processors import all_ruled_out, process_log_probs

UNK_ID = 1


def processed(log_probs, history, **options):
    return process_log_probs(log_probs, history, GenerationConfig(**options), UNK_ID)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_words_that_would_repeat_an_ngram_are_those_that_a_loop_finds(size):
    history = torch.randint(4, (50, 9))
    scores = processed(torch.zeros(50, 12), history, no_repeat_ngram_size=size)
    for text, row in zip(history.tolist(), scores, strict=True):
        ngrams = {tuple(text[i : i + size]) for i in range(len(text) - size + 1)}
        for word in range(12):
            again = (*text[len(text) - size + 1 :], word) in ngrams
            assert row[word] == (-math.inf if again else 0)


def test_a_short_history_rules_out_nothing():
    log_probs = torch.randn(2, 5)
    history = torch.zeros(2, 3, dtype=torch.long)
    assert torch.equal(processed(log_probs, history, no_repeat_ngram_size=4), log_probs)


def test_words_that_have_come_are_penalised_once_each():
    log_probs = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).log()
    scores = processed(log_probs, torch.tensor([[2, 0, 2, 2]]), repetition_penalty=1.5)
    assert torch.equal(scores, log_probs * torch.tensor([1.5, 1.0, 1.5, 1.0]))


def test_unk_is_ruled_out_where_it_is_not_allowed_and_nothing_else():
    log_probs = torch.randn(2, 5)
    scores = processed(log_probs, torch.zeros(2, 3, dtype=torch.long), allow_unk=False)
    assert scores[:, UNK_ID].isneginf().all()
    assert torch.equal(scores[:, UNK_ID + 1 :], log_probs[:, UNK_ID + 1 :])
    assert torch.equal(scores[:, :UNK_ID], log_probs[:, :UNK_ID])


def test_all_is_ruled_out_after_a_text_of_all_words_where_none_may_come_twice():
    scores = processed(torch.zeros(2, 3), torch.tensor([[0, 1, 2], [0, 1, 1]]), no_repeat_ngram_size=1)
    assert all_ruled_out(scores).tolist() == [True, False]
