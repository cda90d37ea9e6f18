"""The options of each config group, and the overrides that choose among them (`model=lstm`)."""

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from itertools import chain
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override

from lm.config.composition import default_config, values_of
from lm.config.suggestions import nearest, refuse_unknown
from lm.errors import UserError

# groups of which several options can be chosen: their entries, each with a `_target_`, add up
ENTRIES = ("callbacks", "logger", "regularizer", "hydra.callbacks")
# prefixes of options of hydra/sweeper and hydra/launcher, and the plugins that provide them
SWEEP_PLUGINS = {
    "optuna": "hydra_plugins.hydra_optuna_sweeper",
    "joblib": "hydra_plugins.hydra_joblib_launcher",
    "submitit": "hydra_plugins.hydra_submitit_launcher",
}


class Options(Mapping[str, list[str]]):
    """The options of each group, including those in subfolders that are not groups themselves.

    Listed when first asked for: Hydra takes some milliseconds for each folder.

    Args:
        groups: the groups of a script.
        searchpath: the overrides of `hydra.searchpath`, for folders beside conf/.
    """

    def __init__(self, groups: Iterable[Any], searchpath: Sequence[Override] = ()) -> None:
        self._loader = GlobalHydra.instance().config_loader()
        self._searchpath = [each.input_line or "" for each in searchpath]
        self._of_group: dict[str, list[str] | None] = dict.fromkeys(map(str, groups))

    def __getitem__(self, group: str) -> list[str]:
        options = self._of_group[group]
        if options is None:
            self._of_group[group] = options = sorted(self._below(group))
        return options

    def __iter__(self) -> Iterator[str]:
        return iter(self._of_group)

    def __len__(self) -> int:
        return len(self._of_group)

    def __contains__(self, group: object) -> bool:
        return group in self._of_group

    def _below(self, group: str) -> Iterator[str]:
        yield from self._loader.get_group_options(group, ObjectType.CONFIG, overrides=self._searchpath)
        for folder in self._loader.get_group_options(group, ObjectType.GROUP, overrides=self._searchpath):
            if f"{group}/{folder}" not in self:
                yield from (f"{folder}/{each}" for each in self._below(f"{group}/{folder}"))

    def is_choice(self, override: Override, keys: Container[str]) -> bool:
        """Whether an override chooses an option of a group and sets none of the `keys`, in Hydra's own terms."""
        if override.package or isinstance(override.value(), dict):
            return bool(override.package)
        group = override.key_or_group
        if "/" in group or group in self:
            return True
        is_key = "." in group or group in keys  # Hydra takes some milliseconds to look for the folder
        return not is_key and bool(self._loader.get_group_options(group) or self._loader.list_groups(group))

    def check(self, choice: Override) -> None:
        """Check that every option that an override chooses, in a sweep, too, is one of its group."""
        group = choice.key_or_group
        if choice.package:
            return  # Hydra's own business
        if group not in self:
            refuse_unknown(choice, group, self)
        for value in chain.from_iterable(_several(each, group) for each in values_of(choice)):
            _check_sweep_extra(str(value))
            if value in ("null", *self[group]):
                continue
            given = f"{group}={value} given, but"
            nested, _, option = f"{group}/{value}".rpartition("/")
            if nested != group and option in self.get(nested, ()):
                raise UserError(f"{given} that is an option of another group: did you mean {nested}={option}?")
            near = nearest(str(value), self[group])
            meant = f": did you mean {group}={near}?" if near else "."
            raise UserError(f"{given} there is no such option{meant} The options are {', '.join(self[group])}.")
        if choice.is_add() or choice.is_force_add():
            raise UserError(f"{choice.input_line} given, but {group} is there already: leave out the +.")


def nested_options(script: str) -> dict[str, list[str]]:
    """The options of every group that a script's config has, those of nested groups included, without Hydra's own."""
    options = Options(default_config(script).hydra.runtime.choices)
    return {group: options[group] for group in sorted(options) if not group.startswith("hydra/")}


def _several(value: Any, group: str) -> list[Any]:
    """The options that a value chooses: one, or those of a list, where the entries of several options add up."""
    several = group in ENTRIES and str(value).startswith("[")
    return (several and re.findall(r"[^][,' ]+", str(value))) or [value]


def _check_sweep_extra(option: str) -> None:
    """Check that the plugin for a sweeper or launcher is installed."""
    for name, plugin in SWEEP_PLUGINS.items():
        if option.startswith(name) and not (find_spec("hydra_plugins") and find_spec(plugin)):
            raise UserError(f"{option} needs more packages: pip install -e '.[sweep]'")
