"""When a text is finished."""

import pytest
import torch

from lm.data import EOS, UNK, Vocabulary
from lm.errors import UserError
from lm.generation.config import GenerationConfig
from lm.generation.stopping_criteria import StoppingCriteria

GENERATED = torch.tensor([[0, 2, 4], [0, 2, 3], [0, 4, 0], [1, 1, 1]])


@pytest.mark.parametrize(
    ("options", "finished"),
    [
        ({}, [False, False, False, False]),
        ({"max_lines": 2}, [False, False, True, False]),
        ({"max_sentences": 2}, [False, True, False, False]),
        ({"max_lines": 2, "max_sentences": 1}, [True, True, True, False]),
    ],
)
def test_a_text_is_finished_with_the_last_line_or_sentence_asked_for(options, finished):
    criteria = StoppingCriteria(GenerationConfig(**options), Vocabulary([EOS, UNK, ".", "?", "a"]))
    assert criteria.are_met(GENERATED).tolist() == finished


def test_sentences_without_anything_that_ends_one_are_refused():
    with pytest.raises(UserError, match="max_sentences=1 given, but the vocabulary has none of"):
        StoppingCriteria(GenerationConfig(max_sentences=1), Vocabulary([EOS, UNK, "a"]))
