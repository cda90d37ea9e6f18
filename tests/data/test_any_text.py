"""Whatever the text: every word is counted once, or there is a clear error."""

import tempfile
from pathlib import Path
from unicodedata import category

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lm.data import EOS, UNK
from lm.data.corpus import encode
from lm.data.datamodule import TextDataModule
from lm.data.sources import folder
from lm.data.windows import Window, Windows, batchify, batchify_padded
from lm.errors import UserError
from lm.ops import IGNORE_INDEX

BIDI = {*map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))}
TEXT = st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from("ab \t\r\n\0")), max_size=80)


def words_of(text: str) -> list[str]:
    """Split as Python reads text files: any kind of line end, any kind of space."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    lines = lines[:-1] if lines[-1] == "" else lines
    words = [word for line in lines for word in [*line.removeprefix("\ufeff").split(), EOS]]
    return [UNK if any(category(letter) == "Cc" or letter in BIDI for letter in word) else word for word in words]


@settings(max_examples=200)
@given(TEXT)
@example("one endless line " * 40)
@example("a\r\nb\r\n")
@example("\n\n\n")
@example("no final newline")
@example("nul \0 bytes\0here\n")
@example("слово 字 كلمة\u2028x\x85y\n")
@example("\ufeff\ufeffa\n\ufeff\n\x1b[2J")
def test_every_word_of_any_text_is_counted_once(text):
    with tempfile.TemporaryDirectory() as directory:
        for split in ("train", "valid", "test"):
            Path(directory, f"{split}.txt").write_bytes(text.encode())
        try:
            corpus = encode(folder(Path(directory)), 1, None, None)
        except UserError as error:
            nothing = "holds NUL" if "\0" in text else "holds no words" if text else "empty"
            assert nothing in str(error)
            assert "\0" in text or set(words_of(text)) <= {EOS}
            return
    expected = words_of(text.removeprefix("\ufeff"))
    for stream in (corpus.train, corpus.valid, corpus.test):
        assert corpus.vocabulary.decode(stream) == expected


@given(st.binary(max_size=40))
def test_bytes_that_are_no_text_are_refused_with_file_and_place(data):
    try:
        data.decode("utf-8")
        return
    except UnicodeDecodeError as error:
        place = error.start
    with tempfile.TemporaryDirectory() as directory:
        for split in ("train", "valid", "test"):
            Path(directory, f"{split}.txt").write_bytes(data)
        with pytest.raises(
            UserError, match=rf"train\.txt (is not UTF-8 text (\(byte {place}\)|but)|holds (NUL|no words))"
        ):
            encode(folder(Path(directory)), 1, None, None)


@given(st.integers(1, 200), st.integers(1, 30), st.integers(1, 20))
def test_evaluation_windows_score_every_word_once_in_its_order(length, batch_size, bptt):
    stream = torch.arange(length)
    windows = list(Windows(batchify_padded(stream, batch_size, eos_id=0), bptt))
    targets = torch.cat([window.targets for window in windows]).t().flatten()
    assert targets[targets != IGNORE_INDEX].tolist() == stream.tolist()
    assert all(1 <= len(window.inputs) <= bptt for window in windows)


@given(st.integers(4, 200), st.integers(1, 30), st.integers(1, 20), st.booleans())
def test_training_windows_cover_their_streams_once(length, batch_size, bptt, jitter):
    streams = batchify(torch.arange(length), min(batch_size, length // 2))
    windows = list(Windows(streams, bptt, jitter, seed=length))
    covered = Window(*(torch.cat(parts) for parts in zip(*windows, strict=True)))
    assert torch.equal(covered.inputs, streams.inputs)
    assert torch.equal(covered.targets, streams.inputs + 1)


@pytest.mark.parametrize(("text", "message"), [("a\n", "batch_size=20 given, but 2 tokens"), ("", "empty")])
def test_a_split_too_short_for_its_streams_is_refused(tmp_path, text, message):
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        TextDataModule(folder, tmp_path, tmp_path / "cache").train_dataloader()
