"""What is said of a text before it is used."""

from functools import partial

import pytest

from lm.data.datamodule import TextDataModule
from lm.data.sources import download, folder
from lm.data.summary import print_summary


@pytest.fixture
def text(tmp_path):
    def write(**options):
        for split, words in (("train", "a b c\nd e\n"), ("valid", "a z\n\n"), ("test", "x y\n\n\n\n")):
            (tmp_path / f"{split}.txt").write_text(words)
        return TextDataModule(folder, tmp_path, tmp_path / "cache", **options)

    return write


def test_files_tokens_and_the_unk_rate_are_printed_and_a_half_is_warned_of(text, tmp_path, capsys):
    print_summary(text())
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        f"train: 7 tokens, 0.0% <unk>, of {tmp_path}/train.txt",
        f"valid: 4 tokens, 50.0% <unk>, of {tmp_path}/valid.txt",
        f"test: 6 tokens, 100.0% <unk>, of {tmp_path}/test.txt",
    ]
    of_test, of_unk = printed.err.splitlines()
    assert of_test.startswith(f"Warning: 100% of the words of {tmp_path}/test.txt are not in the vocabulary")
    assert "it is not learnt: give data.min_count=2" in of_unk


def test_a_min_count_that_makes_all_words_unk_is_warned_of(text, capsys):
    print_summary(text(min_count=2), ["train"])
    assert "100% of the words" in capsys.readouterr().err


def test_only_a_corpus_with_known_checksums_is_called_by_its_name_alone(tmp_path, text):
    assert text(name="x").title("test").startswith(f"{tmp_path.name}-")
    assert (
        TextDataModule(partial(download, files={}), tmp_path, tmp_path, name="wikitext2").title("test") == "wikitext2"
    )
