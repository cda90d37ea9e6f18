"""A checkpoint stands alone, and one that is not what it should be is refused without running anything."""

import json
import math
import os
import random
import subprocess
import sys
import zipfile

import pytest
import torch

import lm.models
from lm import LanguageModel
from lm.checkpoints import checkpoint, stored_model
from lm.checkpoints.pretrained import export_folder
from lm.checkpoints.stored_model import check_weights
from lm.errors import UserError
from tests.conftest import PROCESS_TIMEOUT


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


def endless():
    """A list that holds itself: torch.load(weights_only=True) reads it back as such."""
    own = []
    own.append(own)
    return own


def nested(depth):
    return [nested(depth - 1)] if depth else []


def repeated():
    """Ten million values in a file of some kilobytes: each list is stored once."""
    return [[[0] * 1000] * 1000] * 10


def retyped(stored, dtype):
    stored["state_dict"]["model.head.decoder.bias"] = stored["state_dict"]["model.head.decoder.bias"].to(dtype)


STRANGE = {
    "a width of ten billion": lambda stored: config_of(stored)["core"].update(hidden_size=10**10),
    "a width that no tensor can have": lambda stored: config_of(stored)["core"].update(hidden_size=2**31 - 1),
    "a number of five hundred digits": lambda stored: config_of(stored)["core"].update(hidden_size=10**500),
    "a dropout of nan": lambda stored: config_of(stored)["core"].update(dropout=math.nan),
    "a dropout that is a list": lambda stored: config_of(stored)["core"].update(dropout=[0.1]),
    "half a layer": lambda stored: config_of(stored)["core"].update(num_layers=1.5),
    "true layers": lambda stored: config_of(stored)["core"].update(num_layers=True),
    "300,000 cutoffs": lambda stored: config_of(stored).update(
        head={"_target_": "lm.models.AdaptiveHead", "_partial_": True, "tie_weights": False, "div_value": 1.0}
        | {"cutoffs": list(range(1, 300_001))}
    ),
    "20 cutoffs": lambda stored: config_of(stored).update(
        head={"_target_": "lm.models.AdaptiveHead", "_partial_": True, "tie_weights": False, "div_value": 1.0}
        | {"cutoffs": list(range(1, 21))}
    ),
    "300,000 words": lambda stored: stored["lm"]["vocabulary"].extend(f"x{i}" for i in range(300_000)),
    "a config that holds itself": lambda stored: config_of(stored).update(core=config_of(stored)),
    "a list that holds itself": lambda stored: config_of(stored)["core"].update(dropout=endless()),
    "a list within itself a thousand times": lambda stored: stored["lm"]["config"].update(more=repeated()),
    "a text of a million characters": lambda stored: config_of(stored)["core"].update(cell="x" * 1_000_000),
    "a key of a million characters": lambda stored: stored["lm"]["config"].update({"x" * 1_000_000: 1}),
    "data that is a list": lambda stored: stored["lm"]["config"].update(data=["text"]),
    "lists in lists": lambda stored: stored["lm"]["config"]["data"].update(seed=nested(100)),
    "a tuple": lambda stored: config_of(stored)["core"].update(dropout=(0.1,)),
    "a key that is no name": lambda stored: config_of(stored)["core"].update({3: 4}),
    "a terminal escape as a key": lambda stored: config_of(stored)["core"].update({"\x1b[2J": 4}),
    "a terminal escape as a value": lambda stored: config_of(stored)["core"].update(cell="\x1b[2Jlstm"),
    "an unknown cell": lambda stored: config_of(stored)["core"].update(cell="elman"),
    "what Hydra would leave out": lambda stored: config_of(stored)["core"].update(_recursive_=True),
    "no partial": lambda stored: config_of(stored)["core"].update(_partial_=False),
    "positional arguments": lambda stored: config_of(stored)["core"].update(_args_=[1]),
    "a size that the model gives": lambda stored: config_of(stored)["core"].update(input_size=16),
    "a head in the place of a core": lambda stored: config_of(stored).update(core=config_of(stored)["head"]),
    "a missing size": lambda stored: config_of(stored)["core"].pop("hidden_size"),
    "a value to fill in": lambda stored: config_of(stored)["core"].update(cell="???"),
    "a weight that is nan": lambda stored: stored["state_dict"]["model.head.decoder.bias"].fill_(math.nan),
    "a weight that is infinite": lambda stored: stored["state_dict"]["model.head.decoder.bias"][:1].fill_(math.inf),
    "complex weights": lambda stored: retyped(stored, torch.complex64),
    "whole numbers as weights": lambda stored: retyped(stored, torch.int64),
    "a weight that is a list": lambda stored: stored["state_dict"].update({"model.head.decoder.bias": [0.0]}),
    "an empty word": lambda stored: stored["lm"]["vocabulary"].__setitem__(-1, ""),
    "a word with a space": lambda stored: stored["lm"]["vocabulary"].__setitem__(-1, "two words"),
    "a word with a line end": lambda stored: stored["lm"]["vocabulary"].__setitem__(-1, "a\n"),
    "a word with a no-break space": lambda stored: stored["lm"]["vocabulary"].__setitem__(-1, "a\xa0b"),
    "a word that clears the screen": lambda stored: stored["lm"]["vocabulary"].__setitem__(-1, "\x1b[2J"),
    "a word with a C1 control character": lambda stored: stored["lm"]["vocabulary"].__setitem__(-1, "\x9b2J"),
    "a word that turns the text around": lambda stored: stored["lm"]["vocabulary"].__setitem__(-1, "\u202egpj"),
    "a word with half a surrogate pair": lambda stored: stored["lm"]["vocabulary"].__setitem__(-1, "\ud800"),
    "a vocabulary that is a text": lambda stored: stored["lm"].update(vocabulary="<unk> <eos>"),
    "a step below zero": lambda stored: stored.update(global_step=-1),
    "a billion layers": lambda stored: config_of(stored)["core"].update(num_layers=10**9),
    "a billion rounds": lambda stored: config_of(stored)["core"].update(
        _target_="lm.models.MogrifierCore", rounds=10**9
    ),
    "a memory of a billion positions": lambda stored: config_of(stored)["core"].update(memory=10**9),
    "a wide embedding": lambda stored: config_of(stored)["embedding"].update(embedding_size=10**12),
    "layers that are no number": lambda stored: config_of(stored)["core"].update(num_layers="many"),
    "no core": lambda stored: config_of(stored).pop("core"),
    "an unknown option": lambda stored: config_of(stored)["core"].update(unknown=1),
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
    with pytest.raises(UserError, match=r"is refused: |is not one of this project") as caught:
        LanguageModel.load(path)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 1000


def test_a_weight_under_a_thousand_names_is_refused_before_all_are_read(monkeypatch):
    weight = torch.zeros(3)
    monkeypatch.setattr(torch.Tensor, "isfinite", None)
    with pytest.raises(UserError, match="more elements than numbers that are stored"):
        check_weights({f"weight{i}": weight for i in range(1000)})


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


ATTACKS = {
    "an interpolation that would call": "${oc.create:{_target_:os.mkdir,path:ATTACKED}}",
    "an interpolation that would read": "${oc.env:HOME}",
    "a call": {"_target_": "os.mkdir", "path": "ATTACKED"},
    "a call in a list": [{"_target_": "os.mkdir", "path": "ATTACKED"}],
    "a name that leads out of the package": {"_target_": "lm.models.transformer.torch.hub.load"},
    "a module of the package": {"_target_": "lm.models"},
}
PLACES = {
    "the model": ("model",),
    "a part": ("model", "core"),
    "an argument": ("model", "core", "dropout"),
    "a new argument": ("model", "core", "x"),
    "a target": ("model", "head", "_target_"),
}


def attacked(config, place, attack):
    """A config with an attack put into a place of it."""
    *way, last = place
    node = config
    for key in way:
        node = node[key]
    node[last] = attack
    return config


def load_checkpoint(trained, tmp_path, place, attack):
    path = rewritten(trained, tmp_path / "x.ckpt", lambda stored: attacked(stored["lm"]["config"], place, attack))
    LanguageModel.load(path)


def load_folder(trained, tmp_path, place, attack):
    LanguageModel.load(attacked_folder(trained, tmp_path, place, attack))


def load_with_hugging_face(trained, tmp_path, place, attack):
    from transformers import AutoModelForCausalLM

    import lm.export.huggingface  # noqa: F401  # registers the model

    AutoModelForCausalLM.from_pretrained(attacked_folder(trained, tmp_path, place, attack))


def build_with_hugging_face(trained, tmp_path, place, attack):
    from transformers import AutoConfig, AutoModelForCausalLM

    import lm.export.huggingface  # noqa: F401  # registers the model

    folder = attacked_folder(trained, tmp_path, place, attack)
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))


def attacked_folder(trained, tmp_path, place, attack):
    model = LanguageModel.load(trained("lstm"))
    export_folder(model.model, model.vocabulary, attacked(model.config, place, attack), tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("load", [load_checkpoint, load_folder, load_with_hugging_face, build_with_hugging_face])
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_nothing_that_a_strangers_config_names_is_called_or_resolved(
    trained, tmp_path, monkeypatch, load, place, attack
):
    target = tmp_path / "attacked"
    attack = json.loads(json.dumps(attack).replace("ATTACKED", str(target)))
    monkeypatch.setattr("hydra.utils.instantiate", None)
    with pytest.raises(UserError, match=r"no interpolation is|its config would call|must be|is unknown") as caught:
        load(trained, tmp_path, place, attack)
    assert os.environ["HOME"] + " " not in str(caught.value)
    assert not target.exists()


@pytest.mark.slow
def test_checks_stay_where_python_leaves_asserts_out(trained, tmp_path):
    path = rewritten(trained, tmp_path / "x.ckpt", STRANGE["a terabyte from one number"])
    load = f"from lm import LanguageModel; LanguageModel.load({str(path)!r})"
    done = subprocess.run([sys.executable, "-O", "-c", load], capture_output=True, text=True, timeout=PROCESS_TIMEOUT)
    assert "UserError" in done.stderr and "is refused" in done.stderr


def test_a_path_of_word_vectors_is_not_kept_in_a_loaded_model(trained, tmp_path):
    path = rewritten(
        trained, tmp_path / "x.ckpt", lambda stored: config_of(stored)["embedding"].update(pretrained="/x")
    )
    assert LanguageModel.load(path).model.embedding.pretrained is None


def test_only_classes_that_lm_models_defines_and_exports_can_be_loaded(monkeypatch):
    ours, theirs = (
        type("NewCore", (lm.models.RecurrentCore,), {"__module__": module}) for module in ("lm.models.x", "x")
    )
    for made in (ours, theirs):
        monkeypatch.setattr(lm.models, "NewCore", made, raising=False)
        monkeypatch.setattr(lm.models, "__all__", ["CausalLM", "Core", "NewCore", "TokenEmbedding"])
        cores = stored_model.exported(lambda each: issubclass(each, lm.models.Core))
        assert cores == ((made,) if made is ours else ())


@pytest.mark.parametrize("name", ["lstm", "transformer"])
def test_loading_draws_no_random_weights(trained, name):
    stored = checkpoint.load(trained(name))
    before = torch.get_rng_state()
    model = checkpoint.build_model(stored)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(weight, stored.weights[key]) for key, weight in model.state_dict().items())
