"""The embedded corpus: the same each time, and no document in two splits."""

import pytest

from lm.data import load_corpus, python_docs


@pytest.mark.slow
def test_python_docs_are_deterministic_and_of_a_size_to_learn_from(tmp_path):
    first, second = (python_docs.python_docs(tmp_path / name) for name in "ab")
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in second]
    corpus = load_corpus(first, tmp_path / "cache", min_count=3)
    assert len(corpus.train) > 300_000
    assert len(corpus.valid) > 20_000
    assert len(corpus.test) > 20_000
    assert 4_000 < len(corpus.vocabulary) < 12_000


def test_paragraphs_become_lines_of_words():
    assert python_docs._lines_of_words("It's  a\nlist, OK?\n\n \nNext.") == "It's a list , OK ?\nNext ."


def test_documents_go_to_one_split_each_and_are_written_once(tmp_path, monkeypatch):
    monkeypatch.setattr(python_docs, "_documents", lambda: iter(f"d{i}" for i in range(20)))
    splits = python_docs.python_docs(tmp_path)
    parts = [file.read_text().split() for file in splits]
    assert sorted(word for part in parts for word in part) == sorted(f"d{i}" for i in range(20))
    assert parts[1:] == [["d8", "d18"], ["d9", "d19"]]
    before = splits.train.stat().st_mtime_ns
    assert python_docs.python_docs(tmp_path) == splits
    assert splits.train.stat().st_mtime_ns == before
