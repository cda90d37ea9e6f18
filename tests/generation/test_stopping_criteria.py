"""When a text is finished."""

import torch

from lm.generation.stopping_criteria import StoppingCriterion, is_finished


def test_a_text_is_finished_with_the_last_token_that_counts():
    generated = torch.tensor([[1, 0, 0], [1, 0, 2], [1, 1, 1]])
    criterion = StoppingCriterion(torch.tensor([1, 2]), count=2)
    assert criterion.is_met(generated).tolist() == [False, True, True]


def test_any_criterion_finishes_a_text():
    generated = torch.tensor([[1, 0, 0], [1, 3, 2], [1, 1, 3]])
    criteria = [StoppingCriterion(torch.tensor([0]), 2), StoppingCriterion(torch.tensor([1]), 2)]
    assert is_finished(criteria, generated).tolist() == [True, False, True]
    assert is_finished([], generated).tolist() == [False, False, False]
