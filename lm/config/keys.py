"""The keys that overrides set, add or leave out (`model.core.hidden_size=300`): each must be one that is read."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from inspect import Parameter, Signature, signature
from typing import Any

from hydra._internal.utils import _locate
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from lm.config.composition import nodes_of
from lm.config.options import ENTRIES
from lm.config.plain_data import INSTANTIATE_KEYS
from lm.config.suggestions import last_part, nearest, refuse_unknown
from lm.errors import UserError

# where any new key may be added
FREE = ("models", "sides", "hydra.sweeper.params", "hydra.job.env_set", "hydra.job.env_copy", "hydra.launcher")
SET_BY_SCRIPTS = ("trainer.callbacks", "trainer.logger", "trainer.plugins", "trainer.enable_checkpointing")


@dataclass(frozen=True)
class Keys:
    """The keys that overrides may name.

    Attributes:
        nodes: the dotted keys of a config, with their values.
        given: those that the overrides set, with their values.
        options: those of each group.
        choices: the option chosen of each group, or None.
    """

    nodes: Mapping[str, Any]
    given: Mapping[str, Any]
    options: Mapping[str, list[str]]
    choices: Mapping[str, str | None]

    @classmethod
    def of(cls, config: DictConfig, overrides: list[Override], options: Mapping[str, list[str]]) -> "Keys":
        """Those of a composed config, and those that `overrides` set in it."""
        given = {key: value for each in overrides for key, value in _leaves(each.key_or_group, each.value())}
        return cls(nodes_of(config), given, options, dict(config.hydra.runtime.choices))

    def check(self, override: Override) -> None:
        """Check that what an override sets is there or may be added, and that what it leaves out may be.

        Raises:
            UserError: if not, with the most similar key.
        """
        key, value, line = override.key_or_group, override.value(), override.input_line
        group = key.replace(".", "/")
        if override.is_delete():
            self._check_deletion(override)
            return
        if isinstance(value, str) and "." in key and group in self.options:  # which would replace its config
            option = nearest(value, self.options[group]) or f"OPTION ({', '.join(self.options[group])})"
            raise UserError(f"{line} given, but {group} is a group: did you mean {group}={option}?")
        if override.is_add() and key in self.nodes and not isinstance(value, dict):
            raise UserError(f"{line} given, but {key} is there already: leave out the +.")
        if value is None and _parent(key) in ENTRIES:
            raise UserError(f"{line} given: to leave {key} out, give ~{key}.")
        for path, _ in _leaves(key, value):
            if path not in self.nodes and not any(path.startswith(f"{free}.") for free in FREE):
                self._check_addition(override, path)

    def _check_deletion(self, override: Override) -> None:
        key = override.key_or_group
        if key not in self.nodes and key not in self.options:
            refuse_unknown(override, key, self.nodes)
        if key in self.nodes and "." not in key:
            raise UserError(f"~{key} given, but {key} cannot be left out: choose another value.")

    def _check_addition(self, override: Override, path: str) -> None:
        line = override.input_line
        for group, option in self.choices.items():
            node = group.replace("/", ".")
            if option is None and path.startswith(f"{node}.") and not self.nodes.get(node):
                names = ", ".join(self.options.get(group, ()))
                raise UserError(f"{line} given, but no {node} is chosen: add {group}= one of {names}.")
        if _parent(path) in ENTRIES:
            raise UserError(f"{path} is unknown: add an entry by +{path}._target_=MODULE.CLASS.")
        if path in SET_BY_SCRIPTS or not self._is_argument(path):
            refuse_unknown(override, path, self.nodes)
        if not (override.is_add() or override.is_force_add()):
            raise UserError(f"{path} is not in the config: did you mean +{line}?")

    def _is_argument(self, path: str) -> bool:
        """Whether a new key is, or is below, an argument of something with a `_target_`, there already or added."""
        node, name = _parent(path), last_part(path)
        while node:
            if target := self.given.get(f"{node}._target_") or self.nodes.get(f"{node}._target_"):
                is_entry = node in self.nodes or _parent(node) in ENTRIES or self._is_argument(node)
                return is_entry and (_takes(target, name, node) or name in INSTANTIATE_KEYS)
            node, name = _parent(node), last_part(node)
        return False


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The dotted keys that an override sets, with their values."""
    if isinstance(value, dict) and value:
        for name, each in value.items():
            yield from _leaves(f"{key}.{name}", each)
    else:
        yield key, value


def _takes(target: str, name: str, node: str) -> bool:
    """Whether what `target` names can be called with the argument `name`."""
    parameters = signature_of(located(target, node)).parameters
    return name in parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values())


def signature_of(target: Callable[..., Any]) -> Signature:
    """The signature of a callable; one that takes everything where Python does not know it, as of `dict`."""
    try:
        return signature(target)
    except ValueError:
        return Signature([Parameter("args", Parameter.VAR_POSITIONAL), Parameter("kwargs", Parameter.VAR_KEYWORD)])


def located(target: str, node: str) -> Any:
    """What `target` names, the value of `_target_` in `node`."""
    try:
        found = _locate(target)
    except Exception as error:  # imports may raise anything
        cause = error.__cause__ or error
        reason = (str(cause).splitlines() or [type(cause).__name__])[0].removesuffix(".")
        raise UserError(f"{node}._target_={target} given, but it cannot be imported: {reason}.") from error
    if not callable(found):
        raise UserError(f"{node}._target_={target} given, but it is no class or function.")
    return found


def _parent(path: str) -> str:
    return path.rpartition(".")[0]
