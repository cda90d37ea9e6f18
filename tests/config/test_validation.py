"""The composed config: mistakes are found before any text is read, and every file of conf/ composes."""

import re
import shutil
from itertools import zip_longest
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from lm.config import validation as configs
from lm.config.cli import user_error_message
from lm.config.options import nested_options
from lm.errors import UserError
from lm.training.checks import check_training_config
from lm.training.results import hyperparameters
from tests import conftest
from tests.conftest import CONF, needs_sweep


def composed(*overrides):
    return conftest.composed("train", "run_dir=runs/x", *overrides)


ALONE = ("model", "experiment", "debug", "hparams_search")  # groups whose options may refuse another group's


def options(script):
    """Overrides, as one text, that choose every option once: one of each group at a time, or one alone."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        groups = nested_options(script)
    groups.pop("learning_rate", None)  # one number in each file
    slow = ("mlflow",)  # to import; `test_other_loggers` runs it
    chosen = {group: [f"{group}={name}" for name in names if name not in slow] for group, names in groups.items()}
    alone = [each for group, overrides in chosen.items() if group.startswith(ALONE) for each in overrides]
    others = (overrides for group, overrides in chosen.items() if not group.startswith(ALONE))
    return [*alone, *(" ".join(filter(None, each)) for each in zip_longest(*others))]


def marked(option):
    return pytest.param(option, marks=needs_sweep) if option.startswith("hparams_search") else option


@pytest.mark.parametrize("option", list(map(marked, options("train"))))
def test_every_option_of_every_group_composes_and_fits_its_signatures(option):
    data = ["data.root=x"] if "data=" in option else []
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", ["run_dir=runs/x", *option.split(), *data])
    if "trainer" in option:
        config.trainer.accelerator = "cpu"
    check_training_config(config)
    for group in ("data", "optimizer", "scheduler", "callbacks", "logger", "trainer"):
        assert instantiate(config[group])


@pytest.mark.parametrize("option", options("evaluate"))
def test_every_option_of_an_evaluation_composes_and_fits_its_signatures(option):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        data = ["data.root=x"] if "data=" in option else []
        config = compose("evaluate", ["ckpt=x", *option.split(), *data])
    configs.check(config)
    assert instantiate(config.evaluation)


def test_every_learning_rate_is_one_number_above_zero():
    for file in (CONF / "learning_rate").glob("*.yaml"):
        [(key, lr)] = OmegaConf.load(file).items()
        assert key == "lr" and lr > 0


def test_the_options_checked_are_those_of_nested_groups_too():
    expected = {"model/head=adaptive", "model/embedding=adaptive", "debug=overfit", "hparams_search=optuna"}
    assert expected <= {*options("train")}
    expected = {"evaluation=awd_lstm", "evaluation/cache=neural", "evaluation/dynamic=rms"}
    assert expected <= {*" ".join(options("evaluate")).split()}


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
        ("+optimizer.maximize=true", "optimizer.maximize=true given, but the loss is to fall"),
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
        check_training_config(composed(override))
    shown = user_error_message(caught.value)
    assert shown is not None
    assert message in shown
    assert "\n" not in shown


def test_transformer_mistakes_are_found_before_any_work():
    for override, message in (
        ("model.core.num_heads=3", "num_heads=3 given, but it must divide hidden_size=200"),
        ("model.core.norm=both", "norm=both given, but it must be one of post, pre"),
    ):
        with pytest.raises(HydraException) as caught:
            check_training_config(composed("model=transformer", override))
        assert message in user_error_message(caught.value)


def test_tied_weights_that_cannot_match_are_found_before_any_work():
    with pytest.raises(HydraException) as caught:
        check_training_config(composed("model.head.tie_weights=true", "model/embedding=adaptive"))
    assert "tie_weights=true given, but the head's matrices are" in user_error_message(caught.value)


def test_output_dropout_is_that_of_the_layers_unless_it_is_given():
    assert composed("model=gru", "model.core.dropout=0.4").model.output_dropout == 0.4
    assert composed("model=gru", "model.output_dropout=0.1").model.core.dropout == 0.2


EXAMPLES = ("rnn_tanh", "rnn_relu", "lstm", "gru", "transformer")
PINNED_TRAINER = {
    "max_epochs": 40,
    "max_steps": -1,
    "gradient_clip_val": 0.25,
    "accumulate_grad_batches": 1,
    "log_every_n_steps": 200,
    "val_check_interval": 1.0,
    "check_val_every_n_epoch": 1,
    "limit_train_batches": None,
}


@pytest.mark.parametrize("core", EXAMPLES)
def test_the_examples_recipes_have_its_defaults(core):
    config = OmegaConf.to_container(composed(f"experiment=pytorch_examples/{core}"), resolve=True)
    data, optimizer, model = config["data"], config["optimizer"], config["model"]
    assert (data["batch_size"], data["eval_batch_size"], data["bptt"], data["bptt_jitter"]) == (20, 10, 35, False)
    assert (data["min_count"], data["max_size"], config["seed"]) == (1, None, 1111)
    assert model["embedding"]["embedding_size"] == model["core"]["hidden_size"] == 200
    assert (model["core"]["num_layers"], model["core"]["dropout"]) == (2, 0.2)
    assert not model["head"]["tie_weights"]
    if core == "transformer":
        assert (model["core"]["num_heads"], model["core"]["feedforward_size"], model["core"]["context"]) == (2, 200, 35)
    assert optimizer["_target_"] == "lm.training.optimizers.SGD"
    assert (optimizer["momentum"], optimizer["weight_decay"]) == (0, 0)
    assert optimizer["lr"] == {"rnn_tanh": 1, "rnn_relu": 2, "lstm": 20, "gru": 10, "transformer": 5}[core]
    assert config["scheduler"] == {
        "_target_": "lm.training.schedules.divide_on_plateau",
        "_partial_": True,
        "factor": 4,
        "patience": 0,
    }
    assert PINNED_TRAINER.items() <= config["trainer"].items()


def test_the_examples_recipes_stay_when_the_defaults_change(tmp_path):
    """Every number, switch and null of the other files is changed, and the words of the Transformer's options."""

    def recipes(conf: Path) -> list[dict]:
        found = []
        for core in EXAMPLES:
            with initialize_config_dir(str(conf), version_base="1.3"):
                composed = compose("train", [f"experiment=pytorch_examples/{core}", "run_dir=x", "seed=1111"])
            config = OmegaConf.to_container(composed, resolve=False)
            pinned = {name: config[name] for name in ("model", "optimizer", "scheduler")}
            pinned["data"] = {name: config["data"][name] for name in ("min_count", "batch_size", "bptt", "bptt_jitter")}
            found.append(pinned | {"trainer": {name: config["trainer"][name] for name in PINNED_TRAINER}})
        return found

    changed = tmp_path / "conf"
    shutil.copytree(CONF, changed)
    others = {"sinusoidal": "rotary", "post": "pre", "relu": "gelu", "default": "xavier", "false": "true"}
    for group in ("data", "model", "optimizer", "scheduler", "learning_rate", "trainer"):
        for file in (file for file in (changed / group).rglob("*.yaml") if "pytorch_examples" not in file.name):
            text = re.sub(r"(?m)^( *[a-z]\w*): (-?\d[\d.e-]*|null|true)( |$)", r"\1: 7 ", file.read_text())
            text = re.sub(rf"(?m)^( *[a-z]\w*): ({'|'.join(others)})( |$)", lambda m: f"{m[1]}: {others[m[2]]} ", text)
            file.write_text(text)
    assert recipes(changed) == recipes(CONF)


@pytest.mark.parametrize("core", EXAMPLES)
def test_every_core_has_a_learning_rate_of_its_own_for_each_optimizer(core):
    files = {optimizer: CONF / "learning_rate" / f"{core}_{optimizer}.yaml" for optimizer in ("sgd", "adamw")}
    assert files["sgd"].exists()
    lr = composed(f"experiment=pytorch_examples/{core}", "optimizer=adamw").optimizer.lr
    assert lr == OmegaConf.load(files["adamw"]).lr


@pytest.mark.parametrize(
    ("overrides", "lr"),
    [
        (["model=lstm"], 20.0),
        (["model=transformer"], 5.0),
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


def test_a_checkpoints_config_has_no_logger_whose_address_may_be_secret(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@host")
    config = composed("logger=mlflow", "run_dir=x")
    assert "secret" in config.logger.mlflow.tracking_uri
    assert "secret" not in str(configs.snapshot(config))


def test_hyperparameters_are_what_one_compares_runs_by():
    chosen = hyperparameters(configs.snapshot(composed("model=transformer", "data=text", "data.root=x")))
    assert next(iter(sorted(chosen))) == "core"  # TensorBoard sorts them by name
    assert (chosen["core"], chosen["core/hidden_size"], chosen["head/tie_weights"]) == ("TransformerCore", 200, False)
    assert (chosen["optimizer"], chosen["optimizer/lr"], chosen["seed"]) == ("SGD", 5.0, 1111)
    assert chosen["max_epochs"] > 0
    unwanted = ("callbacks", "_target_", "data/root", "cache_dir", "source", "devices", "default_root_dir")
    assert not any(part in path for path in chosen for part in unwanted)


def test_hydras_own_keys_are_no_arguments():
    node = {"_target_": "torch.nn.Linear", "_args_": [2], "_convert_": "all", "out_features": 3}
    configs.check(OmegaConf.create({"layer": node}))


def test_a_target_that_cannot_be_imported_is_named():
    config = OmegaConf.create({"optimizer": {"_target_": "lm.training.optimizers.SDG", "lr": 1.0}})
    with pytest.raises(
        UserError, match=r"optimizer\._target_=lm\.training\.optimizers\.SDG given, but it cannot be imported: .*SDG"
    ):
        configs.check(config)
