"""The training config of a side: that of scripts/train.py with the overrides of a model and of the side."""

from collections.abc import Sequence
from typing import Any

from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lm.benchmark.comparable import check_precision
from lm.config.composition import one_line_if_not_composed
from lm.config.launch import task_overrides
from lm.config.num_params import asked_params, without_num_params
from lm.config.validation import check
from lm.errors import UserError

GROUPS = ["seed", "data", "model", "optimizer", "scheduler", "trainer"]  # of the config, what a side reads
MAY_CHANGE = ("model", "learning_rate", "optimizer", "trainer")  # what overrides may be of
# the text as the plain loop reads it
PLAIN_DATA = {"min_count": 1, "max_size": None, "bptt_jitter": False, "eval_trim": False, "tokenize": False}


def training_config(config: DictConfig, overrides: Sequence[str], plain_data: bool = True) -> dict[str, Any]:
    """A training config for the text of a benchmark, in primitive types, with the files of the text.

    Args:
        config: the benchmark's.
        overrides: of a model and a side.
        plain_data: whether the text is read as the plain loop reads it, else as `config.data` says.

    Raises:
        UserError: an override is mistaken, or of what a side does not read.
    """
    with one_line_if_not_composed():
        for each in OverridesParser.create().parse_overrides(list(overrides)):
            if each.key_or_group.replace("/", ".").partition(".")[0] not in MAY_CHANGE:
                raise UserError(
                    f"{each.input_line} given, but a side takes only overrides of {', '.join(MAY_CHANGE)}; those of "
                    "data are given to all sides, on the command line."
                )
        training = compose("train", [f"trainer={config.accelerator}", "scheduler=constant", "run_dir=.", *overrides])
    if asked_params(training)[0] is not None:
        raise UserError(
            f"{' '.join(overrides)} given, but a side has no model.num_params: give model.core.hidden_size."
        )
    training = without_num_params(training)
    training.data = {**config.data, **(PLAIN_DATA if plain_data else {})}
    check(training)
    check_precision(training.trainer.precision, overrides)
    files = [str(file) for file in instantiate(config.data).files]
    groups = OmegaConf.to_container(OmegaConf.masked_copy(training, GROUPS), resolve=True)
    assert isinstance(groups, dict)
    return {**groups, "files": files, "words": config.words, "num_samples": 1, **config.learn}


def check_plain_data() -> None:
    """Refuse on the command line how the plain loop does not read a text."""
    for each in task_overrides():
        group, _, key = each.key_or_group.partition(".")
        if group == "data" and key in PLAIN_DATA and each.value() != PLAIN_DATA[key]:
            raise UserError(f"{each.input_line} given, but the plain loop has only data.{key}={PLAIN_DATA[key]}.")
