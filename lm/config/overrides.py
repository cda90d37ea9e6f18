"""The overrides on a command line, checked before Hydra runs: unknown keys and options end in one line.

Hydra accepts any `+key=value`, and answers a mistyped key in several lines without a suggestion. Here the config is
composed once before, and every key that an override names must be in it, be an argument of something that is built
(`+trainer.max_time=...`), or belong to an entry with a `_target_` of its own (`+callbacks.mine._target_=...`).
"""

import re
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

from hydra import compose, initialize_config_dir
from hydra._internal.utils import _locate, get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException
from omegaconf import DictConfig, Node, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lm.config.ranges import check_ranges
from lm.errors import UserError

# in an installed package, else in a checkout
CONF = next(folder for folder in (Path(__file__).parents[n] / "conf" for n in (1, 2)) if folder.is_dir())
# where new entries may be added: each needs a `_target_` in the first, none in the second
ENTRIES = ("callbacks", "logger", "hydra.callbacks")
FREE = ("models", "sides", "hydra.sweeper.params", "hydra.job.env_set", "hydra.job.env_copy", "hydra.launcher")
SET_BY_SCRIPTS = ("trainer.callbacks", "trainer.logger", "trainer.plugins", "trainer.enable_checkpointing")
RESERVED = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")  # Hydra's own words
# how options of hydra/sweeper and hydra/launcher begin, and the plugins that bring them
SWEEP_KINDS = {"optuna": "sweeper", "joblib": "launcher", "submitit": "launcher"}
SWEEP_PLUGINS = {name: f"hydra_{name}_{kind}" for name, kind in SWEEP_KINDS.items()}
SIMILAR = 0.6  # ratio of difflib from which two names are taken for one


def check_command_line(script: str, arguments: Sequence[str]) -> None:
    """Check the arguments of a script before Hydra reads them; those that only ask for information pass.

    Raises:
        UserError: for a flag, key or option that is unknown, a value that cannot be read, a key that is missing, or a
            number out of range; of a sweep's values each job finds its own.
    """
    flags, unknown = get_args_parser().parse_known_args(arguments)
    if unknown:
        raise UserError(f"{unknown[0]} is unknown: give keys as KEY=VALUE, without dashes; --help lists them.")
    asks = flags.help or flags.hydra_help or flags.info or flags.shell_completion or flags.experimental_rerun
    if asks or flags.config_path or flags.config_name:
        return
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        overrides = _parse(flags, loader)
        config = Overrides(script, overrides, loader).checked_config()
    for key, node in [] if flags.cfg else _nodes(config):
        if node._is_missing():
            raise UserError(f"{key} is missing: give {key}=VALUE; --help says more.")
    check_ranges(config, skip=[each.key_or_group for each in overrides if each.is_sweep_override()])


def _parse(flags: Namespace, loader: ConfigLoader) -> list[Override]:
    parser = OverridesParser.create(loader)
    overrides = []
    for argument in flags.overrides:
        try:
            overrides += parser.parse_overrides([argument])
        except HydraException as error:
            reason = str(error.__cause__ or error).split("\n")[0]
            raise UserError(
                f"{argument} given, but Hydra cannot read it ({reason}): give KEY=VALUE, and put a value with special "
                "characters into quotes twice, as in 'key=\"a, b\"'."
            ) from error
    if flags.config_dir:
        overrides += parser.parse_overrides([f"hydra.searchpath=[{Path(flags.config_dir).absolute()}]"])
    many = flags.multirun or any(each.key_or_group == "hydra.mode" and each.value() == "MULTIRUN" for each in overrides)
    for each in overrides:
        if each.is_sweep_override() and not many:
            raise UserError(
                f"{each.input_line} given, which is several values: add -m to run one job for each, or write a list as "
                "[a,b] and a text with commas in quotes."
            )
    return overrides


class Overrides(NamedTuple):
    """The overrides of one command line, for the config of one script."""

    script: str
    overrides: list[Override]
    loader: ConfigLoader

    def checked_config(self) -> DictConfig:
        """The config of the first job, with its node `hydra`.

        Raises:
            UserError: for the first override that does not fit.
        """
        groups = self._compose([]).hydra.runtime.choices
        chosen = [each for each in self.overrides if self._is_option(each)]
        others = [each for each in self.overrides if not self._is_option(each)]
        for override in chosen:
            self._check_option(override, groups)
        base = self._compose([first for each in chosen if not each.is_delete() for first in _first_line(each)])
        added = {
            path: value
            for each in others
            if not each.is_delete()
            for path, value in _leaves(each.key_or_group, each.value())
        }
        for override in others:
            self._check_keys(override, base, added)
        return self._compose([first for each in self.overrides for first in _first_line(each)])

    def _compose(self, lines: list[str]) -> DictConfig:
        try:
            return compose(self.script, lines, return_hydra_config=True)
        except (HydraException, OmegaConfBaseException) as error:
            cause = f" {one_line(error.__cause__)}" if error.__cause__ else ""
            raise UserError(one_line(error) + cause) from error

    def _is_option(self, override: Override) -> bool:
        """Whether an override chooses an option of a group, in Hydra's own terms."""
        if override.package or isinstance(override.value(), dict):
            return bool(override.package)
        group, options = override.key_or_group, self.loader.get_group_options(override.key_or_group)
        return "/" in group or bool(options) or bool(self.loader.list_groups(group))

    def _check_option(self, override: Override, groups: DictConfig) -> None:
        group = override.key_or_group
        if override.package:
            return  # Hydra's own business
        if group not in groups:
            self._refuse_unknown(override, group, map(str, groups))
        if override.is_delete():
            if groups[group] is not None and group in self._compose([]):
                raise UserError(f"~{group} given, but {group} cannot be left out: choose an option.")
            return
        options = sorted(_options(self.loader, group, groups))
        for value in _values(override):
            _check_sweep_extra(str(value))
            if value in (None, "null") or value in options:
                continue
            given = f"{group}={value} given, but"
            nested, _, option = f"{group}/{value}".rpartition("/")
            if nested in groups and nested != group and option in _options(self.loader, nested, groups):
                raise UserError(f"{given} that is an option of another group: did you mean {nested}={option}?")
            near = _nearest(str(value), options)
            meant = f": did you mean {group}={near}?" if near else "."
            raise UserError(f"{given} there is no such option{meant} The options are {', '.join(options)}.")
        if override.is_add() or override.is_force_add():
            raise UserError(f"{override.input_line} given, but {group} is there already: leave out the +.")

    def _check_keys(self, override: Override, base: DictConfig, added: dict[str, Any]) -> None:
        key = override.key_or_group
        groups = base.hydra.runtime.choices
        if override.is_delete():
            if not _has(base, key):
                self._refuse_unknown(override, key, _known(base, key))
            if "." not in key:
                raise UserError(f"~{key} given, but {key} cannot be left out: give it another value.")
            return
        self._check_not_an_option(override, groups)
        if override.is_add() and _has(base, key) and not isinstance(override.value(), dict):
            raise UserError(f"{override.input_line} given, but {key} is there already: leave out the +.")
        if override.value() is None and _parent(key) in ENTRIES:
            raise UserError(f"{override.input_line} given: to leave {key} out, give ~{key}.")
        for path, _ in _leaves(key, override.value()):
            if _has(base, path) or any(path.startswith(f"{free}.") for free in FREE):
                continue
            self._check_is_chosen(override, path, base)
            if _parent(path) in ENTRIES:
                raise UserError(f"{path} is unknown: add an entry by +{path}._target_=MODULE.CLASS.")
            if path in SET_BY_SCRIPTS or not _is_argument(base, path, added):
                self._refuse_unknown(override, path, _known(base, path))
            if not (override.is_add() or override.is_force_add()):
                raise UserError(f"{path} is not in the config: did you mean +{override.input_line}?")

    def _check_not_an_option(self, override: Override, groups: DictConfig) -> None:
        """`model.head=adaptive` would replace the head's config by a string."""
        group, value = override.key_or_group.replace(".", "/"), override.value()
        if not isinstance(value, str) or group not in groups or "." not in override.key_or_group:
            return
        options = sorted(_options(self.loader, group, groups))
        option = _nearest(value, options) or f"OPTION ({', '.join(options)})"
        raise UserError(f"{override.input_line} given, but {group} is a group: did you mean {group}={option}?")

    def _check_is_chosen(self, override: Override, path: str, base: DictConfig) -> None:
        """A key below a group without an option waits for one, as `evaluation.cache.theta` for `evaluation/cache`."""
        for group, option in base.hydra.runtime.choices.items():
            key = str(group).replace("/", ".")
            if option is None and path.startswith(f"{key}.") and not OmegaConf.select(base, key):
                options = ", ".join(sorted(_options(self.loader, str(group), base.hydra.runtime.choices)))
                raise UserError(f"{override.input_line} given, but no {key} is chosen: add {group}= one of {options}.")

    def _refuse_unknown(self, override: Override, key: str, known: Iterable[str]) -> None:
        given = f"{override.input_line} given, but " if override.input_line != key else ""
        near = _nearest(key, known)
        raise UserError(f"{given}{key} is unknown: {f'did you mean {near}?' if near else '--help lists all keys.'}")


def _check_sweep_extra(option: str) -> None:
    """Check that the plugin is installed that a sweeper or launcher needs."""
    for name, plugin in SWEEP_PLUGINS.items():
        if option.startswith(name) and not (find_spec("hydra_plugins") and find_spec(f"hydra_plugins.{plugin}")):
            raise UserError(f"{option} needs more packages: pip install -e '.[sweep]'")


def one_line(error: BaseException) -> str:
    """What Hydra or OmegaConf say, without the lines that concern their own developers."""
    text = re.split(r"\n\s*(?:full_key:|object_type=|reference_type=|Config search path|See https)", str(error))[0]
    return " ".join(text.split())


def nested_options(script: str) -> dict[str, list[str]]:
    """The options of every group that a script's config has, those of nested groups included, without Hydra's own."""
    loader = GlobalHydra.instance().config_loader()
    groups = compose(script, return_hydra_config=True).hydra.runtime.choices
    own = sorted(str(group) for group in groups if not str(group).startswith("hydra/"))
    return {group: sorted(_options(loader, group, groups)) for group in own}


def _options(loader: ConfigLoader, group: str, groups: Iterable[Any]) -> Iterator[str]:
    """The options of a group, those in folders below it too, unless these are groups of their own."""
    yield from loader.get_group_options(group, ObjectType.CONFIG)
    for folder in loader.list_groups(group):
        if f"{group}/{folder}" not in groups:
            yield from (f"{folder}/{each}" for each in _options(loader, f"{group}/{folder}", groups))


def _values(override: Override) -> list[Any]:
    """All values of an override: one, or those that a sweep goes through."""
    if override.is_discrete_sweep():
        return list(override.sweep_string_iterator())
    return [] if override.is_sweep_override() else [override.value()]


def _first_line(override: Override) -> list[str]:
    """The override with the first value of a sweep."""
    if not override.is_sweep_override():
        return [override.input_line or ""]
    sweep = override.value()
    values = [sweep.start] if isinstance(sweep, IntervalSweep) else _values(override)
    return [f"{override.get_key_element()}={values[0]}"] if values else []


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The dotted keys that an override sets, with their values."""
    if isinstance(value, dict) and value:
        for name, each in value.items():
            yield from _leaves(f"{key}.{name}", each)
    else:
        yield key, value


def _nodes(config: DictConfig, path: str = "") -> Iterator[tuple[str, Node]]:
    """All dotted keys of a config with their nodes, without Hydra's own."""
    for key in config:
        node = config._get_node(key)
        if isinstance(node, Node) and (path or key != "hydra"):
            yield f"{path}{key!s}", node
            if isinstance(node, DictConfig) and not node._is_none() and not node._is_missing():
                yield from _nodes(node, f"{path}{key!s}.")


def _keys(config: DictConfig) -> list[str]:
    return [key for key, _ in _nodes(config)]


def _has(config: DictConfig, path: str) -> bool:
    node: Any = config
    for name in path.split("."):
        if not isinstance(node, DictConfig) or node._is_none() or name not in node._content:  # type: ignore[operator]
            return False
        node = node._get_node(name)
    return True


def _parent(path: str) -> str:
    return path.rpartition(".")[0]


def _last(path: str) -> str:
    return path.rpartition(".")[2]


def _known(base: DictConfig, path: str) -> list[str]:
    """The keys that `path` may be a slip of: Hydra's own only for one of them."""
    if not path.startswith("hydra."):
        return _keys(base)
    return [f"hydra.{key}" for key in _keys(base.hydra)]


def _is_argument(base: DictConfig, path: str, added: dict[str, Any]) -> bool:
    """Whether a new key is, or is below, an argument of something with a `_target_`, in the config or added to it.

    Raises:
        UserError: if there is no such target.
    """
    node, name = _parent(path), _last(path)
    while node:
        target = added.get(f"{node}._target_") or OmegaConf.select(base, f"{node}._target_")
        if target is not None:
            is_entry = _has(base, node) or _parent(node) in ENTRIES or _is_argument(base, node, added)
            return is_entry and (_takes(target, name, node) or name in RESERVED)
        node, name = _parent(node), _last(node)
    return False


def _takes(target: str, name: str, node: str) -> bool:
    """Whether what `target` names can be called with the argument `name`."""
    try:
        parameters = signature(_locate(target)).parameters
    except Exception as error:  # whatever an import may raise
        raise UserError(
            f"{node}._target_={target} given, but it cannot be imported: {str(error).splitlines()[0]}."
        ) from error
    return name in parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values())


def _nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like `name`, as a whole and in its last part."""

    def likeness(candidate: str) -> tuple[float, float]:
        pairs = (name.lower(), candidate.lower()), (_last(name.lower()), _last(candidate.lower()))
        whole, last = (SequenceMatcher(None, *pair).ratio() for pair in pairs)
        return whole + last, max(whole, last)

    best = max((each for each in known if not _last(each).startswith("_")), key=likeness, default=None)
    return best if best is not None and likeness(best)[1] >= SIMILAR else None
