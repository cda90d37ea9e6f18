"""Every number in conf/ has a range, and one line refuses what is out of it."""

import math
from itertools import zip_longest

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from lm.config.options import nested_options
from lm.config.overrides import check_command_line
from lm.config.ranges import RANGES, check_ranges
from lm.errors import UserError
from tests.conftest import CONF, HAS_SWEEP, needs_sweep

BIG = 10**30


def leaves(node, path=""):
    """Dotted keys and values; the elements of a list have the list's key."""
    if OmegaConf.is_dict(node):
        for key in node:
            if key != "hydra" and not OmegaConf.is_missing(node, key):
                yield from leaves(node[key], f"{path}.{key}".lstrip("."))
    elif OmegaConf.is_list(node):
        for value in node:
            yield from leaves(value, path)
    else:
        yield path, node


@pytest.fixture(scope="module")
def numbers():
    """Every key of any script's config, of all options of all groups, that has a number, with such a config."""
    found = {}
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for script in (path.stem for path in CONF.glob("*.yaml")):
            always = ["run_dir=x"] if script == "train" else []
            groups = nested_options(script)
            groups.pop("learning_rate", None)  # all have the same key
            if not HAS_SWEEP:
                groups.pop("hparams_search", None)
            for options in zip_longest([None], *groups.values()):  # one of each group at a time
                chosen = [f"{group}={option}" for group, option in zip(groups, options[1:], strict=True) if option]
                config = compose(script, [*always, *chosen])
                for key, value in leaves(config):
                    if isinstance(value, int | float) and not isinstance(value, bool):
                        found.setdefault(key, config)
    return found


def test_every_number_of_every_option_has_a_range(numbers):
    assert len(numbers) > 60
    assert not numbers.keys() - RANGES.keys()


def test_the_values_in_conf_are_in_their_ranges(numbers):
    for config in numbers.values():
        check_ranges(config)


def test_nan_and_absurd_numbers_are_refused_in_one_line_that_names_the_key(numbers):
    for key, config in numbers.items():
        others = RANGES.keys() - {key}
        for value in (math.nan, math.inf, -math.inf, -BIG, BIG, 10**400, float(BIG), "many"):
            if key == "trainer.val_check_interval" and value == "many":
                continue  # Lightning takes times as text
            changed = OmegaConf.create()
            OmegaConf.update(changed, key, [value] if OmegaConf.is_list(OmegaConf.select(config, key)) else value)
            with pytest.raises(UserError) as caught:
                check_ranges(changed, skip=others)
            assert str(caught.value).startswith(f"{key}=")
            assert "given, but it must be" in str(caught.value) or key.endswith("devices")
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        "trainer.gradient_clip_val=-1",
        "trainer.accumulate_grad_batches=-2",
        "trainer.limit_train_batches=1.5",
        "trainer.val_check_interval=0",
        "trainer.log_every_n_steps=0",
        "trainer.devices=0",
        "trainer.devices=-2",
        "trainer.devices=x",
        "trainer.devices=[0,0]",
        "trainer.strategy.timeout_minutes=1e30",
        "callbacks.resumable_checkpoint.every_n_minutes=nan",
        "seed=4294967296",
        "seed=true",
        "seed=abc",
        "data.bptt=35.0",
        "data.eval_batch_size=1e9",
        "data.seed=-1",
        "optimizer.betas=[2,0]",
        "optimizer.lr=inf",
        "scheduler.patience=-1",
        "model.head.cutoffs=[0,10]",
        "evaluation.temperature=1e-320",
        "evaluation.dynamic.candidates.lr=[0.1,-1]",
        "temperature=1e-320",
        "max_words=1e12",
        "num_samples=1000000000",
        "top=1e9",
        "rounds=0",
    ],
)
def test_a_number_out_of_range_is_refused(given):
    with pytest.raises(UserError, match="given, but") as caught:
        check_ranges(OmegaConf.from_dotlist([given]))
    assert str(caught.value).startswith(f"{given.partition('=')[0]}=")


@pytest.mark.parametrize(
    "command",
    [
        "train +trainer.min_epochs=-1",
        "train trainer=ddp trainer.strategy.timeout_minutes=1e30",
        "train -m model=lstm,gru seed=-1",
        pytest.param("train -m hparams_search=optuna hydra.sweeper.n_trials=0", marks=needs_sweep),
        "generate ckpt=x max_words=1e12",
    ],
)
def test_ranges_are_checked_before_a_script_begins(command):
    script, *arguments = command.split()
    key, _, _ = arguments[-1].lstrip("+").partition("=")
    with pytest.raises(UserError, match="given, but") as caught:
        check_command_line(script, arguments)
    assert str(caught.value).startswith(f"{key}=")


def test_the_values_of_a_sweep_are_left_to_its_jobs():
    check_command_line("train", ["-m", "optimizer.lr=-1,1"])
