"""The composed config: mistakes are found before any text is read, and every file of conf/ composes."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from lm import config as configs
from lm.cli import users_mistake
from lm.overrides import nested_options
from lm.results import hyperparameters
from tests.conftest import CONF


def composed(*overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", ["run_dir=runs/x", *overrides])


def options(script):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return [f"{group}={name}" for group, names in nested_options(script).items() for name in names]


@pytest.mark.parametrize("option", options("train"))
def test_every_option_of_every_group_composes_and_fits_its_signatures(option):
    config = composed(option, *(["data.root=x"] if option == "data=text" else []))
    if "trainer" in option:
        config.trainer.accelerator = "cpu"
    configs.check(config)
    for group in ("data", "optimizer", "scheduler", "callbacks", "logger", "trainer"):
        assert instantiate(config[group])


@pytest.mark.parametrize("option", options("evaluate"))
def test_every_option_of_an_evaluation_composes_and_fits_its_signatures(option):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("evaluate", ["ckpt=x", option, *(["data.root=x"] if option == "data=text" else [])])
    configs.check(config)
    assert instantiate(config.evaluation)


def test_the_options_checked_are_those_of_nested_groups_too():
    expected = {"model/head=adaptive", "model/embedding=adaptive", "debug=overfit", "hparams_search=optuna"}
    assert expected <= {*options("train")}
    assert {"evaluation=awd_lstm", "evaluation/cache=neural", "evaluation/dynamic=rms"} <= {*options("evaluate")}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.core.dropout=2", "dropout=2 given, but it must be at least 0 and below 1"),
        ("model.core.cell=elman", "cell=elman given, but it must be one of rnn_tanh"),
        ("model.core.hidden_size=many", "model.core.hidden_size=many given, but it must be of type int"),
        ("model.core.num_layers=true", "model.core.num_layers=True given, but it must be of type int"),
        (
            "+model.core.hiden_size=3",
            "model.core.hiden_size is unknown: model.core takes input_size, cell",
        ),
        ("data.bptt=abc", "data.bptt=abc given, but it must be of type int"),
        ("optimizer.lr=fast", "optimizer.lr=fast given, but it must be of type"),
        ("trainer.max_epochs=many", "trainer.max_epochs=many given"),
        ("optimizer.lr=-1", "optimizer: Invalid learning rate: -1"),
        ("optimizer.lr=true", "optimizer.lr=True given"),
        ("scheduler.factor=0.5", "factor=0.5 given, but it must be above 1"),
        ("trainer.precision=7", "trainer.precision=7 given"),
        ("trainer.precision=16", "set optimizer.fused=false"),
        ("trainer.precision=16-mixed", "set optimizer.fused=false, or trainer.precision=bf16-mixed"),
        ("scheduler.factor=x", "scheduler.factor=x given, but it must be of type float"),
        ("callbacks.sample_text.words=1.5", "callbacks.sample_text.words=1.5 given, but it must be of type int"),
    ],
)
def test_a_value_that_does_not_fit_is_one_line_before_any_work(override, message):
    with pytest.raises(Exception) as caught:
        configs.check(composed(override))
    shown = users_mistake(caught.value)
    assert shown is not None
    assert message in shown
    assert "\n" not in shown


def test_transformer_mistakes_are_found_before_any_work():
    for override, message in (
        ("model.core.num_heads=3", "num_heads=3 given, but it must divide hidden_size=200"),
        ("model.core.norm=both", "norm=both given, but it must be one of post, pre"),
    ):
        with pytest.raises(HydraException) as caught:
            configs.check(composed("model=transformer", override))
        assert message in users_mistake(caught.value)


def test_tied_weights_that_cannot_match_are_found_before_any_work():
    with pytest.raises(HydraException) as caught:
        configs.check(
            composed("model.head.tie_weights=true", "model.head.project=false", "model.embedding.embedding_size=100")
        )
    assert "tie_weights=true needs hidden_size (200) = embedding_size (100)" in users_mistake(caught.value)


@pytest.mark.parametrize("override", ["model.core.hiden_size=3", "modle=lstm", "model=elman", "trainer=tpu"])
def test_a_mistyped_key_or_option_does_not_compose(override):
    with pytest.raises(HydraException):
        composed(override)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("model.core.norm=pre", {"norm": "pre"}),
        ("model.core.positions=rotary", {"positions": "rotary"}),
        ("model.core.activation=gelu", {"activation": "gelu"}),
        ("model.core.activation=swiglu", {"activation": "swiglu"}),
    ],
)
def test_transformer_options_are_one_word(option, value):
    config = composed("model=transformer", option)
    configs.check(config)
    assert value.items() <= OmegaConf.to_container(config.model.core, resolve=True).items()


def test_the_examples_recipes_have_its_defaults():
    for core in ("rnn_tanh", "rnn_relu", "lstm", "gru", "transformer"):
        config = composed(f"experiment=pytorch_examples/{core}")
        assert (config.model.embedding.embedding_size, config.model.core.hidden_size) == (200, 200)
        assert (config.model.core.num_layers, config.model.core.dropout) == (2, 0.2)
        assert (config.data.batch_size, config.data.bptt, config.trainer.gradient_clip_val) == (20, 35, 0.25)
        assert (config.trainer.max_epochs, config.scheduler.factor) == (40, 4)
        assert "SGD" in config.optimizer._target_
        assert not config.model.head.tie_weights


@pytest.mark.parametrize(
    ("overrides", "lr"),
    [
        (["model=lstm"], 20.0),
        (["model=transformer"], 5.0),
        (["experiment=pytorch_examples/rnn_tanh"], 1.0),
        (["experiment=pytorch_examples/rnn_relu"], 2.0),
        (["experiment=pytorch_examples/gru"], 20.0),
        (["model=transformer", "optimizer=adamw"], 0.001),
        (["model=transformer", "optimizer.lr=7"], 7),
    ],
)
def test_the_learning_rate_suits_the_model_unless_it_is_given(overrides, lr):
    assert composed(*overrides).optimizer.lr == lr


def test_snapshot_is_plain_resolved_and_knows_where_the_text_is(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    plain = configs.snapshot(composed("data=text", "data.root=here", "model=transformer"))
    assert Path(plain["data"]["root"]) == tmp_path / "here"
    assert plain["model"]["core"]["context"] == 35
    assert "${" not in str(plain)


def test_hyperparameters_are_what_one_compares_runs_by():
    chosen = hyperparameters(configs.snapshot(composed("model=transformer", "data=text", "data.root=x")))
    assert chosen["model/core"] == "TransformerCore"
    assert chosen["model/core/hidden_size"] == 200
    assert (chosen["optimizer"], chosen["optimizer/lr"], chosen["seed"]) == ("SGD", 5.0, 1111)
    assert not any("callbacks" in path or "_target_" in path for path in chosen)
