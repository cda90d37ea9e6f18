"""The number of parameters that is asked for: what is understood, what is refused, and that no model sees it."""

import pytest
from hydra import compose, initialize_config_dir

from lm.config.cli import user_error_message
from lm.config.num_params import KEYS, asked_params, parse_count, without_num_params
from lm.errors import UserError
from lm.training.checks import check_training_config
from tests.conftest import CONF, MODELS, composed


@pytest.mark.parametrize(
    ("typed", "number"),
    [
        ("24m", 24_000_000),
        ("800k", 800_000),
        ("1.5M", 1_500_000),
        ("2B", 2_000_000_000),
        ("1.5e6", 1_500_000),
        ("24000000", 24_000_000),
        ("24_000_000", 24_000_000),
    ],
)
def test_a_number_may_be_written_in_many_ways(typed, number):
    assert parse_count(typed) == number


@pytest.mark.parametrize(("typed", "number"), [("24M", 24_000_000), ("24_000_000", 24_000_000), ("null", None)])
def test_the_number_on_the_command_line_is_that_of_the_whole_model(typed, number):
    config = composed("train", f"model.num_params={typed}", "run_dir=x")
    check_training_config(config)
    assert asked_params(config) == (number, "all")


@pytest.mark.parametrize(
    "given", ["many", "24 MB", "M", "", "-24M", "0", "1.5", "0.5", "1e-6", "1e99", "9999999B", "nan"]
)
def test_anything_else_is_refused_in_one_line(given):
    with pytest.raises(UserError) as caught:
        parse_count(given)
    assert str(caught.value).startswith(f"model.num_params={given} given, but it must be a whole number")
    assert "such as 24M, 800k or 1.5e6" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.num_params=24MB", "model.num_params=24MB given, but it must be a whole number at least 1 and at most"),
        ("model.num_params=true", "model.num_params=True given, but it must be a whole number"),
        ("model.num_params=1.5", "model.num_params=1.5 given, but it must be a whole number"),
        ("model.num_params_of=head", "model.num_params_of=head given, but it must be one of all, core"),
    ],
)
def test_mistakes_are_found_before_any_text_is_read(override, message):
    with pytest.raises(UserError) as caught:
        check_training_config(composed("train", override, "run_dir=x"))
    assert message in user_error_message(caught.value)


@pytest.mark.parametrize("model", MODELS)
def test_every_models_config_has_the_keys_and_the_copy_without_them_is_the_models_own(model):
    config = composed("train", f"model={model}", "run_dir=x")
    assert set(KEYS) <= set(config.model)
    own = without_num_params(config)
    assert set(config.model) - set(own.model) == set(KEYS)
    assert own.model.core == config.model.core


def test_the_comparison_is_of_all_cores_at_one_size():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", ["experiment=compare"], return_hydra_config=True)
    compared = config.hydra.sweeper.params.model.split(",")
    assert {*MODELS} - {*compared} == {"awd_lstm", "modern_transformer"}  # presets of cores that are compared
    assert asked_params(config) == (10_000_000, "all")
    assert all((CONF / "learning_rate" / f"{model}_compare.yaml").exists() for model in compared)
