"""Plain text in Wikitext's style."""

import sys

import pytest
import torch

from lm.data.corpus import encode
from lm.data.sources import folder
from lm.data.tokenize import _moses, tokenized
from lm.data.vocabulary import EOS, words_of_line
from lm.errors import UserError

pytest.importorskip("sacremoses")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The Value, (of)", "The Value , ( of )"),
        ("Well-known since 1,234.5 B.C.", "Well @-@ known since 1 @,@ 234 @.@ 5 B.C."),
        ("It's Mr. Smith's, don't you know?", "It 's Mr. Smith 's , don 't you know ?"),
        ('He said: "No!"', 'He said : " No ! "'),
        ("10–12 % – about $3.50", "10 – 12 % – about $ 3 @.@ 50"),
        ("a <unk> of it <eos>", "a <unk> of it <eos>"),
        ("Well 't is true , don't go", "Well 't is true , don 't go"),
        ("<unk> " * 1500, ("<unk> " * 1500).strip()),
        ("", ""),
    ],
)
def test_punctuation_is_separated_as_in_wikitext(text, words):
    assert tokenized(text) == words
    assert tokenized(words) == words  # what is tokenised stays as it is


@pytest.mark.slow
def test_nearly_all_lines_of_wikitext_stay_as_they_are(wikitext2):
    lines = (wikitext2 / "valid.txt").read_text().split("\n")
    same = sum(tokenized(line).split() == line.split() for line in lines)
    assert same > 0.98 * len(lines)


def test_a_byte_order_mark_is_no_word_of_a_tokenised_line():
    assert words_of_line("\ufeffYes, no.", tokenize=True) == ["Yes", ",", "no", ".", EOS]


def test_a_corpus_is_encoded_as_its_tokenised_text_is(tmp_path):
    raw, ready = tmp_path / "raw", tmp_path / "ready"
    for path in (raw, ready):
        path.mkdir()
    for split in ("train", "valid", "test"):
        lines = ["Well-known, (or not): 1,000 it's.", "", "One more - the end."]
        (raw / f"{split}.txt").write_text("\n".join(lines))
        (ready / f"{split}.txt").write_text("\n".join(map(tokenized, lines)))
    ours, expected = encode(folder(raw), 1, None, None, tokenize=True), encode(folder(ready), 1, None, None)
    assert ours.vocabulary.words == expected.vocabulary.words
    assert torch.equal(ours.train, expected.train)


def test_a_missing_package_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacremoses", None)
    _moses.cache_clear()
    with pytest.raises(UserError, match=r"pip install -e '.\[tokenize\]'"):
        tokenized("a")
    _moses.cache_clear()
