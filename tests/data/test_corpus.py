"""Encoding and its cache: every token counted, every damage noticed."""

import gzip
import threading

import pytest
import torch

from lm.data import EOS, UNK, Splits, Vocabulary, corpus, load_corpus
from lm.data.sources import folder
from lm.errors import UserError


def splits_of(tmp_path, train="a b a\nc a\n", valid="b d\n", test="a\n"):
    files = Splits(*(tmp_path / f"{split}.txt" for split in Splits._fields))
    for file, text in zip(files, (train, valid, test), strict=True):
        file.write_bytes(text.encode())
    return files


def words(loaded, split):
    return loaded.vocabulary.decode(getattr(loaded, split))


def test_every_line_ends_with_eos(tmp_path):
    loaded = load_corpus(splits_of(tmp_path), tmp_path / "cache")
    assert words(loaded, "train") == ["a", "b", "a", EOS, "c", "a", EOS]
    assert words(loaded, "valid") == ["b", UNK, EOS]


@pytest.mark.parametrize(
    "text",
    [
        "a b\r\n\r\nc",
        "a b\n\nc",
        " a\tb \n \nc\n",
        "\ufeffa b\r\r\ufeffc",
        "a\u2028b\n\nc",
        "a b <eos>\n<eos>\nc <eos>",
    ],
)
def test_line_ends_and_spaces_of_any_kind_give_the_same_words(tmp_path, text):
    loaded = load_corpus(splits_of(tmp_path, train=text), tmp_path / "cache")
    assert words(loaded, "train") == ["a", "b", EOS, EOS, "c", EOS]


def test_vocabulary_is_ordered_by_frequency_and_ties_by_first_appearance(tmp_path):
    loaded = load_corpus(splits_of(tmp_path, train="z y x\nx y\nx <unk> <unk> <unk> <unk>\n"), tmp_path / "cache")
    assert loaded.vocabulary.words == [UNK, EOS, "x", "y", "z"]


def test_min_count_and_max_size_turn_rare_words_into_unk(tmp_path):
    files = splits_of(tmp_path, train="a a a a b b c\n")
    rare = load_corpus(files, tmp_path / "cache", min_count=2)
    assert rare.vocabulary.words == ["a", "b", EOS, UNK]
    assert words(rare, "train") == ["a", "a", "a", "a", "b", "b", UNK, EOS]
    small = load_corpus(files, tmp_path / "cache", max_size=3)
    assert small.vocabulary.words == ["a", UNK, EOS]
    assert words(small, "train") == ["a", "a", "a", "a", UNK, UNK, UNK, EOS]


def test_a_given_vocabulary_is_kept(tmp_path):
    vocabulary = Vocabulary(["b", EOS, UNK])
    loaded = load_corpus(splits_of(tmp_path), tmp_path / "cache", vocabulary=vocabulary)
    assert words(loaded, "train") == [UNK, "b", UNK, EOS, UNK, UNK, EOS]


def test_second_load_comes_from_the_cache_memory_mapped(tmp_path, monkeypatch):
    files = splits_of(tmp_path)
    first = load_corpus(files, tmp_path / "cache")
    monkeypatch.setattr(corpus, "encode", None)
    second = load_corpus(files, tmp_path / "cache")
    assert second.vocabulary.words == first.vocabulary.words
    assert all(torch.equal(a, b) and b.dtype == torch.int32 for a, b in zip(first[1:], second[1:], strict=True))


def test_changed_text_or_settings_are_encoded_again(tmp_path):
    files = splits_of(tmp_path)
    load_corpus(files, tmp_path / "cache")
    load_corpus(files, tmp_path / "cache", min_count=2)
    files.train.write_text("q\n")
    assert words(load_corpus(files, tmp_path / "cache"), "train") == ["q", EOS]
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_a_line_that_ends_in_eos_gets_no_second_one(tmp_path):
    loaded = load_corpus(splits_of(tmp_path, train="a <eos>\na <eos> b\na<eos>\n"), tmp_path / "cache")
    assert words(loaded, "train") == ["a", EOS, "a", EOS, "b", EOS, "a<eos>", EOS]


def test_words_with_control_characters_are_unk(tmp_path):
    loaded = load_corpus(
        splits_of(tmp_path, train="a \x1b[2Ja b\x7f \u202ec\n", valid="\x1b[2Ja\n"), tmp_path / "cache"
    )
    assert words(loaded, "train") == ["a", UNK, UNK, UNK, EOS]
    assert words(loaded, "valid") == [UNK, EOS]


def test_the_unk_rate_leaves_line_ends_out(tmp_path):
    loaded = load_corpus(splits_of(tmp_path, valid="a d\n\n\nc e\n"), tmp_path / "cache")
    assert (loaded.unk_rate("train"), loaded.unk_rate("valid")) == (0, 0.5)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("a b\n".encode("utf-16"), r"valid\.txt is not UTF-8 text but UTF-16: convert it, .* iconv -f UTF-16 "),
        ("a b\n".encode("utf-32"), r"is not UTF-8 text but UTF-32"),
        ("a b\n".encode("utf-16-le"), r"holds NUL bytes, as text in UTF-16LE does: .* iconv -f UTF-16LE "),
        ("a b\n".encode("utf-16-be"), r"iconv -f UTF-16BE "),
        ("a b\n".encode("utf-32-le"), r"iconv -f UTF-32LE "),
        (b"a b\n" * 9 + b"a \0 b\n", r"holds NUL bytes"),
        (gzip.compress(b"a b\n", mtime=0), r"is not UTF-8 text but compressed by gzip: unpack it by gunzip"),
        (b"\xef\xbb\xbfcaf\xe9\n", r"valid\.txt is not UTF-8 text \(byte 6\)"),
        (b"\n \n\n", r"valid\.txt holds no words"),
        (b"\xef\xbb\xbf", r"valid\.txt holds no words"),
        (b"<eos>\n", r"valid\.txt holds no words"),
    ],
)
def test_what_is_no_text_is_one_line_that_says_what_to_do(tmp_path, data, message):
    files = splits_of(tmp_path)
    files.valid.write_bytes(data)
    with pytest.raises(UserError, match=message):
        load_corpus(files, tmp_path / "cache")


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "foreign"])
def test_damaged_cache_is_noticed_and_rebuilt(tmp_path, damage):
    files = splits_of(tmp_path, train="a b c d e f g h\n" * 500)
    whole = load_corpus(files, tmp_path / "cache")
    expected = whole.train.clone()
    [cached] = (tmp_path / "cache").iterdir()
    content = bytearray(cached.read_bytes())
    if damage == "flipped":
        position = content.index(expected.numpy().tobytes()[:400]) + 200
        content[position] ^= 1
    replacement = {"truncated": content[: len(content) // 2], "flipped": content, "empty": b"", "foreign": b"x" * 999}
    del whole
    cached.write_bytes(replacement[damage])
    assert torch.equal(load_corpus(files, tmp_path / "cache").train, expected)
    assert torch.equal(corpus._read(cached).train, expected)


def test_two_loads_at_once_agree_and_leave_one_whole_file(tmp_path):
    files, results = splits_of(tmp_path, train="a b c\n" * 2000), []
    threads = [
        threading.Thread(target=lambda: results.append(load_corpus(files, tmp_path / "cache"))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all(torch.equal(result.train, results[0].train) for result in results)
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_cache_that_cannot_be_written_is_warned_of_and_done_without(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    loaded = load_corpus(splits_of(tmp_path), tmp_path / "file" / "cache")
    assert len(loaded.train)
    assert "Warning: Cannot keep the encoded corpus in cache_dir=" in capsys.readouterr().err


def test_wikitext2_has_its_published_counts(wikitext2, tmp_path):
    loaded = load_corpus(folder(wikitext2), tmp_path)
    assert len(loaded.vocabulary) == 33_278
    assert [len(split) for split in loaded[1:]] == [2_088_628, 217_646, 245_569]
    for split in (loaded.valid, loaded.test):  # 'valid and test hold no word that train lacks'
        text = (split is loaded.valid and "valid.txt") or "test.txt"
        assert (split == loaded.vocabulary.unk_id).sum() == (wikitext2 / text).read_text().split().count(UNK)
