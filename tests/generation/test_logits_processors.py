"""What may not be written, against plain loops."""

import math

import pytest
import torch

from lm.errors import UserError
from lm.generation.logits_processors import LogitsProcessor, StoppingCriterion, stuck


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_words_that_would_repeat_a_sequence_are_those_that_a_loop_finds(size):
    history = torch.randint(4, (50, 9))
    scores = LogitsProcessor(no_repeat_ngram=size).apply(torch.zeros(50, 12), history)
    for text, row in zip(history.tolist(), scores, strict=True):
        sequences = {tuple(text[i : i + size]) for i in range(len(text) - size + 1)}
        for word in range(12):
            again = (*text[len(text) - size + 1 :], word) in sequences
            assert row[word] == (-math.inf if again else 0)


def test_a_short_history_forbids_nothing():
    log_probs = torch.randn(2, 5)
    assert torch.equal(
        LogitsProcessor(no_repeat_ngram=4).apply(log_probs, torch.zeros(2, 3, dtype=torch.long)), log_probs
    )


def test_words_that_have_come_are_penalised_once_each():
    log_probs = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).log()
    scores = LogitsProcessor(repetition_penalty=1.5).apply(log_probs, torch.tensor([[2, 0, 2, 2]]))
    assert torch.equal(scores, log_probs * torch.tensor([1.5, 1.0, 1.5, 1.0]))


def test_a_text_of_all_words_is_stuck_where_none_may_come_twice():
    scores = LogitsProcessor(no_repeat_ngram=1).apply(torch.zeros(2, 3), torch.tensor([[0, 1, 2], [0, 1, 1]]))
    assert stuck(scores).tolist() == [True, False]


@pytest.mark.parametrize("values", [{"repetition_penalty": 0.5}, {"no_repeat_ngram": 0}])
def test_values_out_of_range_are_refused(values):
    with pytest.raises(UserError, match="given, but it must be at least 1"):
        LogitsProcessor(**values)


def test_a_stop_is_reached_with_the_last_of_its_words():
    stop = StoppingCriterion(torch.tensor([1, 2]), count=2)
    assert stop.reached(torch.tensor([[1, 0, 0], [1, 0, 2], [1, 1, 1]])).tolist() == [False, True, True]
