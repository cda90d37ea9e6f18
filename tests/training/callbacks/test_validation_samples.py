"""Which lines of the validation text the figures show."""

import torch

from lm.data import EOS, UNK, Vocabulary
from lm.data.corpus import Corpus
from lm.training.callbacks.validation_samples import sentences


def corpus(text: str) -> Corpus:
    lines = [line.split() for line in text.splitlines()]
    words = [word for line in lines for word in (*line, EOS)]
    vocabulary = Vocabulary(list(dict.fromkeys([UNK, EOS, *words])))
    empty = torch.empty(0, dtype=torch.int32)
    return Corpus(vocabulary, empty, vocabulary.encode(words).int(), empty)


def test_lines_with_many_different_words_come_before_titles_and_rows_of_asterisks():
    sentence = "a sentence with more than ten words that differ from each other ."
    another = sentence.replace("a", "one")
    text = f"\n= A title =\n* * * * * * * * * * * * * * *\n{sentence}\n{another}\n"
    shown = [" ".join(line) for line in sentences(corpus(text))]
    assert shown == [sentence, another, "= A title =", "* * * * * * * * * * * * * * *"]


def test_a_text_of_empty_lines_shows_an_end_of_line():
    assert sentences(corpus("\n\n")) == [[EOS]]
