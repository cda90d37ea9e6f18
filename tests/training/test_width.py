"""The width that is solved for: near the number asked, allowed, written into the config, and the same when resumed."""

import csv
import json

import pytest
import torch
from hydra.utils import instantiate

from lm.checkpoints import checkpoint
from lm.config.num_params import KEYS
from lm.errors import UserError
from lm.models.size import parameter_counts
from lm.training.checks import check_training_config
from lm.training.width import set_width
from scripts.train import train
from tests.conftest import MODELS, composed, mistake, run, small, tiny_config

HEADS = {
    "softmax": [],
    "tied": ["model.head.tie_weights=true"],
    "adaptive": ["model/head=adaptive", "model.head.cutoffs=[6]", "model.head.tie_weights=false"],
    "mixture": ["model/head=mixture", "model.head.num_experts=2"],
}


@pytest.fixture
def solved(text_folder):
    """The config with its widths, and the counts of the model."""

    def solve(*overrides: str) -> tuple:
        config = composed("train", *small(text_folder, "run_dir=x", *overrides))
        set_width(config)
        assert not set(KEYS) & set(config.model)
        with torch.device("meta"):
            vocabulary_size = len(instantiate(config.data).corpus.vocabulary)
            return config.model, parameter_counts(instantiate(config.model, vocabulary_size=vocabulary_size))

    return solve


# every head with the LSTM, every class of core with the softmax
SAME_CLASS = ("rnn_tanh", "rnn_relu", "gru", "modern_transformer")
CORES = [model for model in MODELS if model not in SAME_CLASS]
WIDTHS = [(model, head) for model in CORES for head in HEADS if model == "lstm" or head == "softmax"]


@pytest.mark.parametrize(
    ("model", "head", "part"),
    [(*each, "all") for each in WIDTHS]
    + [(model, "softmax", "core") for model in ("lstm", "transformer", "transformer_xl")],
)
def test_every_core_comes_within_one_percent(solved, model, part, head):
    options = ["model.core.feedforward_size=32"] if "transformer" in model else []  # twice the width, as is usual
    asked = "model.num_params=30M", f"model.num_params_of={part}"
    config, counts = solved(f"model={model}", *asked, *HEADS[head], *options)
    found = counts["core"] if part == "core" else sum(counts.values())
    assert found == pytest.approx(30_000_000, rel=0.01)
    assert config.embedding.embedding_size == 16
    if "last_size" in config.core:
        assert config.core.last_size == 16


def test_without_a_number_the_sizes_stay(solved, capsys):
    config, _ = solved()
    assert config.core.hidden_size == 16
    assert capsys.readouterr().out == ""


def test_what_is_found_is_printed(solved, capsys):
    solved("model.num_params=1.5e6")
    assert capsys.readouterr().out == (
        "model.num_params=1500000: with hidden_size=349 the model has 1,497,584 parameters (-0.16%), "
        "embedding and head included\n"
    )
    solved("model=transformer", "model.num_params=800k", "model.num_params_of=core")
    assert capsys.readouterr().out.endswith("%), embedding and head not included\n")


def test_a_transformer_keeps_its_ratio_and_its_heads(solved):
    sizes = ["model.core.hidden_size=64", "model.core.feedforward_size=256", "model.core.num_heads=8"]
    for positions, multiple in (("sinusoidal", 8), ("rotary", 16)):
        options = [f"model.core.positions={positions}", "model.num_params=2M"]
        config, counts = solved("model=transformer", *sizes, *options)
        assert config.core.hidden_size % multiple == 0
        assert config.core.feedforward_size == 4 * config.core.hidden_size
        assert sum(counts.values()) == pytest.approx(2_000_000, rel=0.03)  # the nearest of the multiples


@pytest.mark.parametrize("model", ["transformer", "modern_transformer"])
def test_heads_need_not_divide_the_width_that_is_replaced(model, text_folder, tmp_path):
    options = f"model={model}", "model.core.num_heads=3", "model.core.feedforward_size=32"
    config = tiny_config(text_folder, tmp_path, *options, "model.num_params=100k")
    check_training_config(config)
    set_width(config)
    assert config.model.core.hidden_size % 3 == 0
    instantiate(config.model, vocabulary_size=20)


def test_an_embedding_may_follow_the_core(solved):
    follows = "model.embedding.embedding_size=${model.core.hidden_size}"
    config, counts = solved("model.head.tie_weights=true", follows, "model.num_params=1M")
    assert config.embedding.embedding_size == config.core.hidden_size > 200
    assert sum(counts.values()) == pytest.approx(1_000_000, rel=0.01)


def test_a_core_as_wide_as_the_embedding_which_needs_no_projection_is_found(solved):
    tied = ["model.head.tie_weights=true", "model.embedding.embedding_size=100"]
    _, as_wide = solved(*tied, "model.core.hidden_size=100")
    config, counts = solved(*tied, f"model.num_params={sum(as_wide.values())}")
    assert (config.core.hidden_size, counts) == (100, as_wide)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["model.num_params=10"],
            "=10 given, but the model has at least 488 parameters (hidden_size=1) and",
        ),
        (
            ["model.num_params=900B"],
            "=900B given, but the model has at least 488 parameters (hidden_size=1) and",
        ),
        (["model.num_params=3", "model.num_params_of=core"], "=3 given, but the core has at least 92 parameters"),
        (
            ["model=awd_lstm", "model.core.num_layers=1", "model.num_params=1M"],
            "=1M given, but the model has",
        ),
    ],
)
def test_a_number_out_of_reach_is_one_line_that_names_the_smallest(text_folder, tmp_path, overrides, message):
    said = mistake(train, *small(text_folder, f"run_dir={tmp_path}", *overrides))
    assert said.startswith(f"model.num_params{message}")
    assert not (tmp_path / "checkpoints").exists()


def test_a_core_without_a_width_is_refused(text_folder):
    config = composed("train", *small(text_folder, "run_dir=x", "~model.core.hidden_size", "model.num_params=1M"))
    with pytest.raises(UserError, match=r"model\.core has no hidden_size to solve for"):
        set_width(config)


SHORT = ("trainer.max_epochs=1", "trainer.limit_train_batches=4", "test=false", "model.num_params=20k")


def test_checkpoints_hold_the_width_and_the_run_is_found_and_resumed_by_the_number(text_folder, tmp_path):
    train(tiny_config(text_folder, tmp_path / "run", *SHORT))
    stored = checkpoint.load(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert not set(KEYS) & set(stored.config["model"])
    assert type(stored.config["model"]["core"]["hidden_size"]) is int
    counts = parameter_counts(checkpoint.build_model(stored))
    assert sum(counts.values()) == pytest.approx(20_000, rel=0.03)  # the nearest of the widths
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["parameters"] == sum(counts.values())
    train(tiny_config(text_folder, tmp_path / "other", *SHORT, "ckpt=last", "trainer.max_epochs=2"))
    assert checkpoint.load(tmp_path / "run" / "checkpoints" / "last.ckpt").step == 8
    with pytest.raises(UserError, match=r"another model\.core\.hidden_size"):
        train(tiny_config(text_folder, tmp_path / "other", *SHORT, "ckpt=last", "model.num_params=30k"))


@pytest.mark.slow
def test_a_multirun_compares_cores_of_one_size(text_folder, tmp_path):
    arguments = small(text_folder, *SHORT, "model=lstm,transformer", "model.num_params=20k,40_000")
    done = run("train", "-m", *arguments, "hydra.sweep.dir=sweep", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((tmp_path / "sweep" / "sweep.csv").open()))
    assert sorted(round(int(row["parameters"]), -4) for row in rows) == [20_000, 20_000, 40_000, 40_000]
