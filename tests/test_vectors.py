"""Word vectors in and out."""

import pytest
import torch

from lm import LanguageModel
from lm.data import Vocabulary
from lm.errors import UserError
from lm.vectors import load_vectors, vectors_text
from scripts.export import export
from scripts.train import train
from tests.conftest import composed, tiny_config

VOCABULARY = Vocabulary(["<unk>", "<eos>", "the", "cat"])


@pytest.mark.parametrize("header", ["", "4 3\n"], ids=["glove", "word2vec"])
def test_words_of_the_file_get_its_vectors_and_others_keep_theirs(tmp_path, header):
    lines = "cat 1 2 3\nThe 7 7 7\nnew york 9 9 9\nthe 4 5 6e-1\nthe 8 8 8\n"
    (tmp_path / "x.txt").write_text(header + lines)
    weight = torch.zeros(4, 3)
    assert load_vectors(tmp_path / "x.txt", VOCABULARY, weight) == 2
    assert torch.equal(weight, torch.tensor([[0, 0, 0], [0, 0, 0], [4, 5, 0.6], [1, 2, 3]]))


def test_vectors_come_back_to_the_last_bit(tmp_path):
    vectors, weight = torch.randn(4, 7) * 1e-3, torch.zeros(4, 7)
    (tmp_path / "x.txt").write_text(vectors_text(VOCABULARY, vectors))
    assert load_vectors(tmp_path / "x.txt", VOCABULARY, weight) == 4
    assert torch.equal(weight, vectors)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("the 1 2\n", "line 1 of .* has 2 numbers after its word, but model.embedding.embedding_size=3"),
        ("4 300\nthe 1 2 3 4\n", "line 2 of .* has 4 numbers"),
        ("the 1 2 3\ncat 1 2\n", "line 2 of .* has 2 numbers"),
        ("the 1 x 3\n", "line 1 of .* has something else than finite numbers"),
        ("the 1 nan 3\n", "line 1 of .* has something else than finite numbers"),
        (b"\xff\xfe", "it is not UTF-8"),
    ],
)
def test_a_file_that_is_no_file_of_vectors_is_one_line(tmp_path, content, message):
    (tmp_path / "x.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message):
        load_vectors(tmp_path / "x.txt", VOCABULARY, torch.zeros(4, 3))


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"Cannot read model\.embedding\.pretrained=.*: No such file"):
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
