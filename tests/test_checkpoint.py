"""A checkpoint stands alone, and one that is not what it should be is refused without running anything."""

import os
import random
import zipfile

import pytest
import torch

from lm import LanguageModel, checkpoint
from lm.errors import UserError


@pytest.mark.parametrize("model", ["lstm", "transformer"])
def test_a_trained_model_loads_from_its_file_alone(trained, model, monkeypatch):
    path = trained(model)
    monkeypatch.setattr("lm.data.corpus.load_corpus", None)
    loaded = LanguageModel.load(path)
    assert loaded.config["model"]["core"]["hidden_size"] == 16
    assert not loaded.model.training
    weights = torch.load(path, weights_only=True)["state_dict"]
    assert {f"model.{name}" for name in loaded.model.state_dict()} == set(weights)
    assert all(torch.equal(value, weights[f"model.{name}"]) for name, value in loaded.model.state_dict().items())


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"No checkpoint at ckpt=.*nowhere\.ckpt"):
        checkpoint.load(tmp_path / "nowhere.ckpt")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 broken"])
def test_a_damaged_file_is_refused(tmp_path, content):
    (tmp_path / "x.ckpt").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.ckpt is damaged"):
        checkpoint.load(tmp_path / "x.ckpt")


class Attack:
    """Would create a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path):
    torch.save({"state_dict": {}, "lm": Attack(tmp_path / "attacked")}, tmp_path / "x.ckpt")
    with pytest.raises(UserError, match="refused: it holds objects that could run code"):
        checkpoint.load(tmp_path / "x.ckpt")
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize("target", ["lm.models.transformer.torch.hub.load", "lm.models.nowhere", "lm.models", 3])
def test_a_name_that_leads_out_of_the_package_is_refused(target):
    with pytest.raises(UserError, match="refused"):
        checkpoint.refuse_foreign_targets({"x": ({"_target_": target},)}, "lm.models.")


@pytest.mark.parametrize("place", ["_target_", "core", "list"])
def test_a_config_that_would_call_something_else_is_refused_and_not_called(trained, tmp_path, place):
    stored = checkpoint.load(trained("lstm"))
    attack = {"_target_": "os.mkdir", "path": str(tmp_path / "attacked")}
    model = stored.config["model"]
    stored.config["model"] = {
        "_target_": attack,
        "core": model | {"core": model["core"] | {"x": attack}},
        "list": model | {"head": [attack]},
    }[place]
    with pytest.raises(UserError, match=r"refused: its config would call os\.mkdir"):
        checkpoint.build_model(stored)
    assert not (tmp_path / "attacked").exists()


def test_another_projects_checkpoint_is_refused(tmp_path):
    torch.save({"state_dict": {"weight": torch.zeros(1)}}, tmp_path / "x.ckpt")
    with pytest.raises(UserError, match="not one of this project"):
        checkpoint.load(tmp_path / "x.ckpt")


def test_weights_that_do_not_fit_the_config_are_refused(trained):
    stored = checkpoint.load(trained("lstm"))
    stored.config["model"]["core"]["hidden_size"] = 17
    with pytest.raises(UserError, match="do not fit"):
        checkpoint.build_model(stored)


def rewritten(trained, path, change):
    """A stranger's checkpoint: a good one, changed."""
    stored = torch.load(trained("lstm"), weights_only=True)
    change(stored)
    torch.save(stored, path)
    return path


def config_of(stored):
    return stored["lm"]["config"]["model"]


STRANGE = {
    "a width of ten billion": lambda stored: config_of(stored)["core"].update(hidden_size=10**10),
    "a billion layers": lambda stored: config_of(stored)["core"].update(num_layers=10**9),
    "a wide embedding": lambda stored: config_of(stored)["embedding"].update(embedding_size=10**12),
    "layers that are no number": lambda stored: config_of(stored)["core"].update(num_layers="many"),
    "no core": lambda stored: config_of(stored).pop("core"),
    "an unknown option": lambda stored: config_of(stored)["core"].update(surprise=1),
    "a vocabulary that is too small": lambda stored: stored["lm"]["vocabulary"].pop(),
    "a vocabulary that is too large": lambda stored: stored["lm"]["vocabulary"].append("more"),
    "weights of another shape": lambda stored: stored["state_dict"].update({"model.head.decoder.bias": torch.zeros(3)}),
    "a weight too many": lambda stored: stored["state_dict"].update({"model.more": torch.zeros(3)}),
    "a weight too few": lambda stored: stored["state_dict"].popitem(),
    "a terabyte from one number": lambda stored: stored["state_dict"].update(
        {"model.head.decoder.weight": torch.zeros(1).expand(500_000, 500_000)}
    ),
    "a sparse weight": lambda stored: stored["state_dict"].update(
        {"model.head.decoder.bias": torch.zeros(3).to_sparse()}
    ),
    "a step that is no number": lambda stored: stored.update(global_step="x"),
    "a config that is a list": lambda stored: stored["lm"].update(config=["model", "data"]),
    "words that are no text": lambda stored: stored["lm"].update(vocabulary=[1, 2, "<unk>", "<eos>"]),
    "a word twice": lambda stored: stored["lm"]["vocabulary"].append("<unk>"),
    "no <unk>": lambda stored: stored["lm"]["vocabulary"].remove("<unk>"),
}


@pytest.mark.parametrize("change", STRANGE.values(), ids=STRANGE.keys())
def test_a_checkpoint_that_does_not_fit_itself_is_refused_before_it_takes_memory(trained, tmp_path, change):
    path = rewritten(trained, tmp_path / "x.ckpt", change)
    with pytest.raises(UserError, match=r"do not fit its config|is not one of this project"):
        LanguageModel.load(path)


def test_a_file_that_unpacks_to_more_than_itself_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.ckpt", "w", zipfile.ZIP_DEFLATED) as parts:
        parts.writestr("x/data.pkl", bytes(10_000_000))
    with pytest.raises(UserError, match=r"x\.ckpt is damaged"):
        checkpoint.load(tmp_path / "x.ckpt")


def test_no_flipped_byte_goes_unnoticed(trained, tmp_path):
    whole = trained("lstm").read_bytes()
    expected = checkpoint.load(trained("lstm"))
    chooser = random.Random(0)
    path = tmp_path / "x.ckpt"
    refused = 0
    for _ in range(150):
        place = chooser.randrange(len(whole))
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << chooser.randrange(8))]) + whole[place + 1 :])
        try:
            stored = checkpoint.load(path)
        except UserError as error:
            assert "x.ckpt" in str(error)
            refused += 1
        else:  # it was padding between the file's parts
            assert stored.config == expected.config
            assert stored.vocabulary.words == expected.vocabulary.words
            torch.testing.assert_close(stored.weights, expected.weights, rtol=0, atol=0)
    assert refused > 50


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_checkpoint_is_refused(trained, tmp_path, share):
    whole = trained("lstm").read_bytes()
    (tmp_path / "x.ckpt").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match=r"x\.ckpt is damaged"):
        checkpoint.load(tmp_path / "x.ckpt")
