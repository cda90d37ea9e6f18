"""Word vectors in and out."""

import gzip
import math
import struct

import pytest
import torch

from lm import LanguageModel
from lm.data import Vocabulary
from lm.data.word_vectors import load_vectors, vectors_text
from lm.errors import UserError
from scripts.export import export
from scripts.train import train
from tests.conftest import composed, tiny_config

VOCABULARY = Vocabulary(["<unk>", "<eos>", "the", "cat"])


LINES = "cat 1 2 3\nThe 7 7 7\nnew york 9 9 9\nat 5 9 9 9\nthe 4 5 6e-1\nthe 8 8 8\n"
BINARY = b"".join(
    word.encode() + b" " + struct.pack("<3f", *numbers) + end
    for word, numbers, end in [("cat", (1, 2, 3), b"\n"), ("The", (7, 7, 7), b""), ("the", (4, 5, 0.6), b"")]
)


@pytest.mark.parametrize(
    "content",
    [
        LINES.encode(),
        b"6 3\n" + LINES.encode(),
        b"6\t3\r\n" + LINES.replace(" ", "\t").replace("\n", "\t\r\n").encode(),
        b"\xef\xbb\xbf" + LINES.encode(),
        b"\xef\xbb\xbf6 3\n" + LINES.encode(),
        b". . . 1 1 1\n" + LINES.encode(),
        b" 1 1 1\n\xc2\xa0 1 1 1\n\n" + LINES.encode(),
        gzip.compress(LINES.encode(), mtime=0),
        b"3 3\n" + BINARY,
        gzip.compress(b"3 3\n" + BINARY, mtime=0),
    ],
    ids=[
        "glove",
        "word2vec",
        "tabs",
        "bom",
        "bom_word2vec",
        "space_first",
        "blank_word",
        "gzip",
        "binary",
        "gzip_binary",
    ],
)
def test_words_of_the_file_get_its_vectors_and_others_keep_theirs(tmp_path, content):
    (tmp_path / "x.txt").write_bytes(content)
    weight = torch.zeros(4, 3)
    assert load_vectors(tmp_path / "x.txt", VOCABULARY, weight) == 2
    assert torch.equal(weight, torch.tensor([[0, 0, 0], [0, 0, 0], [4, 5, 0.6], [1, 2, 3]]))


def test_vectors_of_one_number_have_a_header_too(tmp_path):
    (tmp_path / "x.txt").write_text("2 1\nthe 0.5\ncat 3\n")
    weight = torch.zeros(4, 1)
    assert load_vectors(tmp_path / "x.txt", VOCABULARY, weight) == 2
    assert weight.flatten().tolist() == [0, 0, 0.5, 3]


def test_vectors_come_back_to_the_last_bit(tmp_path):
    vectors, weight = torch.randn(4, 7) * 1e-3, torch.zeros(4, 7)
    (tmp_path / "x.txt").write_text(vectors_text(VOCABULARY, vectors))
    assert load_vectors(tmp_path / "x.txt", VOCABULARY, weight) == 4
    assert torch.equal(weight, vectors)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("the 1 2\n", "line 1 of .* has 2 values after its word, but embedding_size=3"),
        ("the 1 2 3 4\n", "line 1 of .* has 4 values after its word, but embedding_size=3"),
        ("4 300\nthe 1 2 3\n", "has vectors of 300 values, but embedding_size=3: make them equal"),
        ("4 3\nthe 1 2 3\n", "cut short: it has 1 of the 4 vectors"),
        (b"2 3\n" + BINARY[:20], "cut short: it has 1 of the 2 vectors"),
        (b"1 3\nthe " + struct.pack("<3f", 1, math.nan, 3), "vector 1 of .* has something else than finite numbers"),
        (gzip.compress(b"the 1 2 3\n" * 999, mtime=0)[:-20], "is damaged or cut short"),
        ("the 1 2 3\n".encode("utf-16"), "is not UTF-8 text but UTF-16"),
        ("the 1 2 3\n".encode("utf-16-le"), "holds NUL bytes"),
        (b"PK\x03\x04\xff", "is not UTF-8 text but a zip archive"),
        ("the 1 2 3\ncat 1 2\n", "line 2 of .* has 2 values"),
        ("the 1 x 3\n", "line 1 of .* has something else than finite numbers"),
        ("the 1 nan 3\n", "line 1 of .* has something else than finite numbers"),
        (b"the 1 2 3\n\xe9 1 2 3", "is not UTF-8 text \\(byte 10\\)"),
    ],
)
def test_a_file_that_is_no_file_of_vectors_is_one_line(tmp_path, content, message):
    (tmp_path / "x.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message):
        load_vectors(tmp_path / "x.txt", VOCABULARY, torch.zeros(4, 3))


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"Cannot read /.*nowhere\.txt: No such file"):
        load_vectors(tmp_path / "nowhere.txt", VOCABULARY, torch.zeros(4, 3))


def test_training_begins_with_exported_vectors_and_its_checkpoint_needs_them_no_more(
    trained, text_folder, tmp_path, capsys
):
    out = export(composed("export", f"ckpt={trained('lstm')}", "format=vectors", f"out={tmp_path}/x.txt"))
    options = (f"model.embedding.pretrained={out}", "optimizer.lr=1e-12", "trainer.max_epochs=1", "test=false")
    train(tiny_config(text_folder, tmp_path, *options))
    assert "22 of 22 words begin with vectors" in capsys.readouterr().out
    out.unlink()
    loaded, before = (
        LanguageModel.load(path).model.embedding.weight
        for path in (tmp_path / "checkpoints/best.ckpt", trained("lstm"))
    )
    torch.testing.assert_close(loaded, before)


def test_an_embedding_of_several_widths_takes_no_vectors(text_folder, tmp_path):
    options = ("model/embedding=adaptive", "model.embedding.cutoffs=[5]", "+model.embedding.pretrained=x")
    with pytest.raises(UserError, match=r"model\.embedding\.pretrained is unknown"):
        train(tiny_config(text_folder, tmp_path, *options))
