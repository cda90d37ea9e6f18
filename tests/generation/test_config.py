"""Options out of range, and those that contradict each other, are refused when the config is made."""

import pytest

from lm.errors import UserError
from lm.generation.config import GenerationConfig


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"temperature": 0}, "temperature=0 given, but it must be above 0"),
        ({"temperature": -1.0}, "temperature=-1.0"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"top_k": 0}, "top_k=0 given, but it must be at least 1"),
        ({"top_p": 0.0}, "top_p=0.0 given, but it must be above 0 and at most 1"),
        ({"min_p": 1.5}, "min_p=1.5"),
        ({"repetition_penalty": 0.5}, "repetition_penalty=0.5 given, but it must be at least 1"),
        ({"no_repeat_ngram_size": 0}, "no_repeat_ngram_size=0 given, but it must be at least 1"),
        ({"num_samples": 0}, "num_samples=0"),
        ({"max_words": -1}, "max_words=-1"),
        ({"max_lines": 0}, "max_lines=0"),
        ({"max_sentences": 0}, "max_sentences=0"),
        ({"seed": -1}, "seed=-1"),
        ({"num_beams": 0}, "num_beams=0 given, but it must be at least 1"),
        ({"num_beams": 2, "max_words": 0}, "max_words=0 given, but with num_beams it must be at least 1"),
        ({"num_beams": 2, "length_penalty": -1.0}, "length_penalty=-1.0 given, but it must be at least 0"),
        ({"length_penalty": 1.0}, "length_penalty=1.0 given, but it is for beams"),
        ({"num_beams": 2, "num_samples": 3}, "num_samples=3 given, but it must be at most num_beams=2"),
        ({"num_beams": 2, "top_k": 5}, "top_k=5 with num_beams=2 given"),
        ({"num_beams": 2, "repetition_penalty": 1.5}, "repetition_penalty=1.5 with num_beams=2 given"),
    ],
)
def test_options_out_of_range_are_refused(wrong, message):
    with pytest.raises(UserError, match=message):
        GenerationConfig(**wrong)
