"""The overrides on a command line, checked before Hydra runs: unknown keys and options end in one line.

Hydra accepts any `+key=value`, and answers a mistyped key in several lines without a suggestion. Here the config is
composed once before, and every key that an override names must be in it, be an argument of something that is built
(`+trainer.max_time=...`), or belong to an entry with its own `_target_` (`+callbacks.mine._target_=...`).
"""

import re
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from lm.config.composition import CONF, composed, default_config, nodes_of
from lm.config.defaults import check_against_defaults
from lm.config.keys import Keys
from lm.config.options import Options
from lm.config.ranges import check_ranges
from lm.errors import UserError


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
        overrides = _parse(flags, GlobalHydra.instance().config_loader())
        default = default_config(script)
        config = _checked(script, overrides, default)
    nodes = nodes_of(config)
    for key, value in [] if flags.cfg else nodes.items():
        if value == "???" and not key.startswith("hydra."):
            raise UserError(f"{key} is missing: give {key}=VALUE; --help says more.")
    keys = [each for each in overrides if each.key_or_group not in default.hydra.runtime.choices]
    for job in (config, *map(OmegaConf.create, _swept_values(keys))):
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


def _checked(script: str, overrides: list[Override], default: DictConfig) -> DictConfig:
    """The config with these overrides, each of which is of a known option or key."""
    searchpath = [each for each in overrides if each.key_or_group == "hydra.searchpath"]
    options = Options(default.hydra.runtime.choices, searchpath)
    default_nodes = nodes_of(default)
    chosen = [each for each in overrides if options.is_choice(each, default_nodes) and not each.is_delete()]
    for each in chosen:
        options.check(each)
    others = [each for each in overrides if each not in chosen]
    config = None
    if not any(_changes_the_keys(each, others) for each in others):  # all keys are there: composing once is enough
        with suppress(UserError):
            config = composed(script, overrides) if overrides else default
    keys = Keys.of(config or composed(script, [*searchpath, *chosen]), others, options)
    for each in others:
        keys.check(each)
    return config or composed(script, overrides)


def _changes_the_keys(override: Override, others: Iterable[Override]) -> bool:
    """Whether an override adds keys, leaves some out, or replaces what has a key that another override names."""
    if override.is_add() or override.is_force_add() or override.is_delete() or isinstance(override.value(), dict):
        return True
    return any(each.key_or_group.startswith(f"{override.key_or_group}.") for each in others)


def _swept_values(overrides: Iterable[Override]) -> Iterator[dict[str, Any]]:
    """Each value of a sweep over a top-level key, with the key."""
    for each in overrides:
        if each.is_discrete_sweep() and each.key_or_group.isidentifier():
            for text in each.sweep_string_iterator():
                yield {each.key_or_group: OverridesParser.create().parse_override(f"key={text}").value()}
