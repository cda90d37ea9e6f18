"""`model.num_params`: the number of parameters that a training config requests in place of a width."""

import copy
import re
from decimal import Decimal
from typing import Any

from omegaconf import DictConfig, open_dict

from lm.config.checks import one_of
from lm.config.ranges import RANGES
from lm.errors import UserError

KEYS = ("num_params", "num_params_of")  # in the config of the model, but no arguments of its class
PARTS = ("all", "core")
UNITS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}


def asked_params(config: DictConfig) -> tuple[int | None, str]:
    """The requested number of parameters, or None, and what it counts: "all" of the model or its "core"."""
    number, part = (config.model.get(key) for key in KEYS)
    one_of(PARTS, **{"model.num_params_of": str(part or PARTS[0])})
    return None if number is None else parse_count(number), part or PARTS[0]


def parse_count(given: Any) -> int:
    """A number of parameters: a whole number such as 24000000 or 1.5e6, or a text such as 24M or 800k."""
    found = re.fullmatch(r"(\d[\d_]*(?:\.\d+)?(?:e\+?\d\d?)?)([kmb]?)", str(given).strip().lower())
    count = Decimal(found[1]) * UNITS[found[2]] if found and not isinstance(given, bool) else Decimal(0)
    if count != int(count) or not RANGES["model.num_params"].has(int(count)):
        raise UserError(
            f"model.num_params={given} given, but it must be a whole number {RANGES['model.num_params']}, such as "
            "24M, 800k or 1.5e6."
        )
    return int(count)


def without_num_params(config: DictConfig) -> DictConfig:
    """A copy of a training config without them."""
    config = copy.deepcopy(config)
    drop_num_params(config)
    return config


def drop_num_params(config: DictConfig) -> None:
    """Remove the keys that are no arguments of the model, in place."""
    with open_dict(config):
        for key in KEYS:
            config.model.pop(key, None)
