"""The config of a script, composed before Hydra does it for the run, in one line where it cannot be."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from lm.errors import UserError

# in an installed package, else in a checkout
CONF = next(folder for folder in (Path(__file__).parents[n] / "conf" for n in (1, 2)) if folder.is_dir())


def composed(script: str, overrides: Sequence[Override] = ()) -> DictConfig:
    """The config of a script, including Hydra's node; for a sweep, that of the first job."""
    lines = []
    for each in overrides:
        if not each.is_sweep_override():
            lines.append(each.input_line or "")
        elif values := values_of(each):
            lines.append(f"{each.get_key_element()}={values[0]}")
    with one_line_if_not_composed():
        return compose(script, lines, return_hydra_config=True)


@contextmanager
def one_line_if_not_composed() -> Iterator[None]:
    """Report in one line what Hydra or OmegaConf refuse to compose."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(" ".join(map(_one_line, filter(None, (error, error.__cause__))))) from error


@cache
def default_config(script: str) -> DictConfig:
    """The config of a script without overrides; not to be changed."""
    return composed(script)


def _one_line(error: BaseException) -> str:
    """The message of Hydra or OmegaConf, without its internal details."""
    text = re.split(r"\n\s*(?:full_key:|object_type=|reference_type=|Config search path|See https)", str(error))[0]
    return " ".join(text.split())


def values_of(override: Override) -> list[Any]:
    """All values of an override: one, or those of a sweep; of an interval only the first."""
    if override.is_discrete_sweep():
        return list(override.sweep_string_iterator())
    value = override.value()
    return [value.start] if isinstance(value, IntervalSweep) else [value]


def nodes_of(config: DictConfig, path: str = "") -> dict[str, Any]:
    """All dotted keys of a config, including mappings, with their unresolved values."""
    found: dict[str, Any] = {}
    for name, value in config.items_ex(resolve=False):
        is_open = isinstance(value, DictConfig) and not value._is_none() and not value._is_interpolation()
        found[f"{path}{name!s}"] = value
        found |= nodes_of(value, f"{path}{name!s}.") if is_open else {}
    return found
