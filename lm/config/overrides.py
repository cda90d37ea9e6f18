"""The overrides on a command line, checked before Hydra runs: unknown keys and options end in one line.

Hydra accepts any `+key=value`, and answers a mistyped key in several lines without a suggestion. Here the config is
composed once before, and every key that an override names must be in it, be an argument of something that is built
(`+trainer.max_time=...`), or belong to an entry with its own `_target_` (`+callbacks.mine._target_=...`).
"""

import re
from argparse import Namespace
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from functools import cache
from importlib.util import find_spec
from inspect import signature
from itertools import chain
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.utils import _locate, get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lm.config.defaults import check_against_defaults
from lm.config.plain_data import INSTANTIATE_KEYS
from lm.config.ranges import check_ranges
from lm.errors import UserError

# in an installed package, else in a checkout
CONF = next(folder for folder in (Path(__file__).parents[n] / "conf" for n in (1, 2)) if folder.is_dir())
# where new entries may be added: each needs a `_target_` in the first, none in the second
ENTRIES = ("callbacks", "logger", "regularizer", "hydra.callbacks")
FREE = ("models", "sides", "hydra.sweeper.params", "hydra.job.env_set", "hydra.job.env_copy", "hydra.launcher")
SET_BY_SCRIPTS = ("trainer.callbacks", "trainer.logger", "trainer.plugins", "trainer.enable_checkpointing")
# prefixes of options of hydra/sweeper and hydra/launcher, and the plugins that provide them
SWEEP_PLUGINS = {
    "optuna": "hydra_plugins.hydra_optuna_sweeper",
    "joblib": "hydra_plugins.hydra_joblib_launcher",
    "submitit": "hydra_plugins.hydra_submitit_launcher",
}


def only_prints(arguments: Sequence[str]) -> bool:
    """Whether these arguments ask Hydra for text, such as the help or the config, and run nothing."""
    flags, _ = get_args_parser().parse_known_args(arguments)
    return _asks_for_help(flags) or bool(flags.cfg)


def _asks_for_help(flags: Namespace) -> bool:
    return bool(flags.help or flags.hydra_help or flags.info or flags.shell_completion)


def check_command_line(script: str, arguments: Sequence[str]) -> None:
    """Check the arguments of a script before Hydra reads them; requests for information pass.

    The ranges of a sweep's values are checked by each job.
    """
    flags, unknown = get_args_parser().parse_known_args(arguments)
    if unknown:
        raise UserError(f"{unknown[0]} is unknown: give keys as KEY=VALUE, without dashes; --help lists them.")
    if _asks_for_help(flags) or flags.experimental_rerun or flags.config_path or flags.config_name:
        return
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        overrides = _parse(flags, loader)
        default = _default(script)
        searchpath = [each for each in overrides if each.key_or_group == "hydra.searchpath"]
        options, keys = Options(loader, default.hydra.runtime.choices, searchpath), _nodes(default)
        chosen = [each for each in overrides if _is_option(each, loader, options, keys) and not each.is_delete()]
        for override in chosen:
            _check_option(override, options)
        base = _compose(script, [*searchpath, *chosen]) if chosen else default
        others = [each for each in overrides if each not in chosen]
        added = {key: value for each in others for key, value in _leaves(each.key_or_group, each.value())}
        base_nodes = _nodes(base) if chosen else keys
        for override in others:
            _check_key(override, base, base_nodes, options, added)
        config = _compose(script, overrides) if others else base
    nodes = _nodes(config) if others else base_nodes
    for key, value in [] if flags.cfg else nodes.items():
        if value == "???" and not key.startswith("hydra."):
            raise UserError(f"{key} is missing: give {key}=VALUE; --help says more.")
    for job in (config, *map(OmegaConf.create, _swept_values(overrides))):
        check_against_defaults(job, default)
    swept = [each.key_or_group for each in overrides if each.is_sweep_override()]
    # a reference may be to a swept key; to any other, the key itself is checked
    references = [key for key, value in nodes.items() if "${" in str(value)] if swept else []
    check_ranges(config, skip=[*swept, *references])


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
        overrides += parser.parse_overrides([f"hydra.searchpath=[{quoted(str(Path(flags.config_dir).absolute()))}]"])
    many = flags.multirun or any(each.key_or_group == "hydra.mode" and each.value() == "MULTIRUN" for each in overrides)
    for each in overrides:
        if each.is_sweep_override() and not many:
            raise UserError(
                f"{each.input_line} given, which is several values: add -m to run one job for each, or write a list as "
                "[a,b] and a text with commas in quotes."
            )
    return overrides


def quoted(text: str) -> str:
    """The text in quotes; Hydra unescapes a quote, and the backslashes before it or before the end, but no others."""
    escaped = re.sub(r'(\\*)("|\Z)', lambda found: 2 * found[1] + ('\\"' if found[2] else ""), text)
    return f'"{escaped}"'


def _compose(script: str, overrides: Sequence[Override] = ()) -> DictConfig:
    """The config of a script, including Hydra's node; for a sweep, that of the first job."""
    lines = []
    for each in overrides:
        if not each.is_sweep_override():
            lines.append(each.input_line or "")
        elif values := _values(each):
            lines.append(f"{each.get_key_element()}={values[0]}")
    try:
        return compose(script, lines, return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(" ".join(map(_one_line, filter(None, (error, error.__cause__))))) from error


@cache
def _default(script: str) -> DictConfig:
    """The config of a script without overrides; not to be changed."""
    return _compose(script)


def _one_line(error: BaseException) -> str:
    """The message of Hydra or OmegaConf, without its internal details."""
    text = re.split(r"\n\s*(?:full_key:|object_type=|reference_type=|Config search path|See https)", str(error))[0]
    return " ".join(text.split())


def nested_options(script: str) -> dict[str, list[str]]:
    """The options of every group that a script's config has, those of nested groups included, without Hydra's own."""
    options = Options(GlobalHydra.instance().config_loader(), _default(script).hydra.runtime.choices)
    return {group: options[group] for group in sorted(options) if not group.startswith("hydra/")}


class Options(Mapping[str, list[str]]):
    """The options of each group, including those in subfolders that are not groups themselves.

    Listed when first asked for: Hydra takes some milliseconds for each folder.

    Args:
        loader: lists the folders of options.
        groups: the groups of a script.
        searchpath: the overrides of `hydra.searchpath`, for folders beside conf/.
    """

    def __init__(self, loader: ConfigLoader, groups: Iterable[Any], searchpath: Sequence[Override] = ()) -> None:
        self._loader = loader
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


def _is_option(override: Override, loader: ConfigLoader, groups: Container[str], keys: Container[str]) -> bool:
    """Whether an override chooses an option of a group, in Hydra's own terms."""
    if override.package or isinstance(override.value(), dict):
        return bool(override.package)
    group = override.key_or_group
    if "/" in group or group in groups:
        return True
    is_key = "." in group or group in keys  # Hydra takes some milliseconds to look for the folder
    return not is_key and bool(loader.get_group_options(group) or loader.list_groups(group))


def _check_option(override: Override, options: Mapping[str, list[str]]) -> None:
    group = override.key_or_group
    if override.package:
        return  # Hydra's own business
    if group not in options:
        _refuse_unknown(override, group, options)
    for value in chain.from_iterable(_options_of(each, group) for each in _values(override)):
        _check_sweep_extra(str(value))
        if value in ("null", *options[group]):
            continue
        given = f"{group}={value} given, but"
        nested, _, option = f"{group}/{value}".rpartition("/")
        if nested != group and option in options.get(nested, ()):
            raise UserError(f"{given} that is an option of another group: did you mean {nested}={option}?")
        near = _nearest(str(value), options[group])
        meant = f": did you mean {group}={near}?" if near else "."
        raise UserError(f"{given} there is no such option{meant} The options are {', '.join(options[group])}.")
    if override.is_add() or override.is_force_add():
        raise UserError(f"{override.input_line} given, but {group} is there already: leave out the +.")


def _options_of(value: Any, group: str) -> list[Any]:
    """The options that a value chooses: one, or those of a list, where the entries of several options add up."""
    several = group in ENTRIES and str(value).startswith("[")
    return (several and re.findall(r"[^][,' ]+", str(value))) or [value]


def _check_sweep_extra(option: str) -> None:
    """Check that the plugin for a sweeper or launcher is installed."""
    for name, plugin in SWEEP_PLUGINS.items():
        if option.startswith(name) and not (find_spec("hydra_plugins") and find_spec(plugin)):
            raise UserError(f"{option} needs more packages: pip install -e '.[sweep]'")


def _check_key(
    override: Override,
    base: DictConfig,
    nodes: dict[str, Any],
    options: Mapping[str, list[str]],
    added: dict[str, Any],
) -> None:
    key, value, line = override.key_or_group, override.value(), override.input_line
    group = key.replace(".", "/")
    if override.is_delete():
        if key not in nodes and key not in options:
            _refuse_unknown(override, key, nodes)
        if key in nodes and "." not in key:
            raise UserError(f"~{key} given, but {key} cannot be left out: choose another value.")
        return
    if isinstance(value, str) and "." in key and group in options:  # which would replace its config by a string
        option = _nearest(value, options[group]) or f"OPTION ({', '.join(options[group])})"
        raise UserError(f"{line} given, but {group} is a group: did you mean {group}={option}?")
    if override.is_add() and key in nodes and not isinstance(value, dict):
        raise UserError(f"{line} given, but {key} is there already: leave out the +.")
    if value is None and _parent(key) in ENTRIES:
        raise UserError(f"{line} given: to leave {key} out, give ~{key}.")
    for path, _ in _leaves(key, value):
        if path in nodes or any(path.startswith(f"{free}.") for free in FREE):
            continue
        for group, option in base.hydra.runtime.choices.items():
            node = group.replace("/", ".")
            if option is None and path.startswith(f"{node}.") and not nodes.get(node):
                names = ", ".join(options.get(group, ()))
                raise UserError(f"{line} given, but no {node} is chosen: add {group}= one of {names}.")
        if _parent(path) in ENTRIES:
            raise UserError(f"{path} is unknown: add an entry by +{path}._target_=MODULE.CLASS.")
        if path in SET_BY_SCRIPTS or not _is_argument(path, nodes, added):
            _refuse_unknown(override, path, nodes)
        if not (override.is_add() or override.is_force_add()):
            raise UserError(f"{path} is not in the config: did you mean +{line}?")


def _is_argument(path: str, nodes: dict[str, Any], added: dict[str, Any]) -> bool:
    """Whether a new key is, or is below, an argument of something with a `_target_`, in the config or added to it."""
    node, name = _parent(path), _last(path)
    while node:
        if target := added.get(f"{node}._target_") or nodes.get(f"{node}._target_"):
            is_entry = node in nodes or _parent(node) in ENTRIES or _is_argument(node, nodes, added)
            return is_entry and (_takes(target, name, node) or name in INSTANTIATE_KEYS)
        node, name = _parent(node), _last(node)
    return False


def _takes(target: str, name: str, node: str) -> bool:
    """Whether what `target` names can be called with the argument `name`."""
    parameters = signature(located(target, node)).parameters
    return name in parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values())


def located(target: str, node: str) -> Any:
    """What `target` names, the value of `_target_` in `node`."""
    try:
        return _locate(target)
    except Exception as error:  # imports may raise anything
        cause = error.__cause__ or error
        reason = (str(cause).splitlines() or [type(cause).__name__])[0].removesuffix(".")
        raise UserError(f"{node}._target_={target} given, but it cannot be imported: {reason}.") from error


def _refuse_unknown(override: Override, key: str, known: Iterable[str]) -> None:
    given = f"{override.input_line} given, but " if override.input_line != key else ""
    near = _nearest(key, [each for each in known if each.startswith("hydra.") == key.startswith("hydra.")])
    raise UserError(f"{given}{key} is unknown: {f'did you mean {near}?' if near else '--help lists all keys.'}")


def _nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most similar to `name`, as a whole and in its last part."""

    def likeness(candidate: str) -> list[float]:
        pairs = (name.lower(), candidate.lower()), (_last(name.lower()), _last(candidate.lower()))
        return [SequenceMatcher(None, *pair).ratio() for pair in pairs]

    names = [each for each in known if not _last(each).startswith("_")]
    best = max(names, key=lambda each: sum(likeness(each)), default=None)
    return best if best is not None and max(likeness(best)) >= 0.6 else None


def _values(override: Override) -> list[Any]:
    """All values of an override: one, or those of a sweep; of an interval only the first."""
    if override.is_discrete_sweep():
        return list(override.sweep_string_iterator())
    value = override.value()
    return [value.start] if isinstance(value, IntervalSweep) else [value]


def _swept_values(overrides: Iterable[Override]) -> Iterator[dict[str, Any]]:
    """Each value of a sweep over a top-level key, with the key."""
    for each in overrides:
        if each.is_discrete_sweep() and each.key_or_group.isidentifier():
            for text in each.sweep_string_iterator():
                yield {each.key_or_group: OverridesParser.create().parse_override(f"key={text}").value()}


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The dotted keys that an override sets, with their values."""
    if isinstance(value, dict) and value:
        for name, each in value.items():
            yield from _leaves(f"{key}.{name}", each)
    else:
        yield key, value


def _nodes(config: DictConfig, path: str = "") -> dict[str, Any]:
    """All dotted keys of a config, including mappings, with their unresolved values."""
    found: dict[str, Any] = {}
    for name, value in config.items_ex(resolve=False):
        is_open = isinstance(value, DictConfig) and not value._is_none() and not value._is_interpolation()
        found[f"{path}{name!s}"] = value
        found |= _nodes(value, f"{path}{name!s}.") if is_open else {}
    return found


def _parent(path: str) -> str:
    return path.rpartition(".")[0]


def _last(path: str) -> str:
    return path.rpartition(".")[2]
