"""The training config of a side: that of scripts/train.py with the overrides of a model and of the side."""

from collections.abc import Sequence
from typing import Any

from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lm.benchmark.comparable import check_trainer
from lm.config.composition import one_line_if_not_composed
from lm.config.launch import task_overrides
from lm.config.num_params import asked_params, without_num_params
from lm.config.ranges import check_ranges
from lm.config.validation import check
from lm.errors import UserError

GROUPS = ["seed", "data", "model", "optimizer", "scheduler", "trainer"]  # of the config, what a side reads
MAY_CHANGE = ("seed", "model", "learning_rate", "optimizer", "trainer")  # what overrides may be of
# the words and the windows of the plain loop
WORDS = {"min_count": 1, "max_size": None, "tokenize": False}
WINDOWS = {"bptt_jitter": False, "partial_shuffle": False, "eval_trim": False}


def training_config(config: DictConfig, overrides: Sequence[str], any_words: bool = False) -> dict[str, Any]:
    """A training config for the text of a benchmark, in primitive types, with the files of the text.

    Args:
        config: the benchmark's.
        overrides: of a model and a side.
        any_words: whether the vocabulary is that of `config.data`, else that of the plain loop.

    Raises:
        UserError: an override is mistaken, or of what is the same for all sides.
    """
    with one_line_if_not_composed():
        for each in OverridesParser.create().parse_overrides(list(overrides)):
            if each.key_or_group.replace("/", ".").partition(".")[0] not in MAY_CHANGE:
                raise UserError(
                    f"{each.input_line} given, but a side takes only overrides of {', '.join(MAY_CHANGE)}: the text, "
                    "data, is given for all sides, on the command line."
                )
        training = compose("train", [f"trainer={config.accelerator}", "scheduler=constant", "run_dir=.", *overrides])
    if asked_params(training)[0] is not None:
        raise UserError(
            f"{' '.join(overrides)} given, but a side has no model.num_params: give model.core.hidden_size."
        )
    training = without_num_params(training)
    training.data = {**config.data, **WINDOWS, **({} if any_words else WORDS)}
    check(training)
    check_ranges(training)
    check_trainer(training.trainer, overrides)
    files = [str(file) for file in instantiate(config.data).files]
    groups = OmegaConf.to_container(OmegaConf.masked_copy(training, GROUPS), resolve=True)
    assert isinstance(groups, dict)
    return {**groups, "files": files, "words": config.words, "num_samples": 1, **config.learn}


def check_typed_data(any_words: bool) -> None:
    """Refuse options of the data on the command line that the plain loop has not."""
    plain = WINDOWS if any_words else WINDOWS | WORDS
    for each in task_overrides():
        group, _, key = each.key_or_group.partition(".")
        if group == "data" and key in plain and each.value() != plain[key]:
            raise UserError(f"{each.input_line} given, but a benchmark has only data.{key}={plain[key]}.")
