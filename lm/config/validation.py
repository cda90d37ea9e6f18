"""The composed config: checked before any work, and stored in the checkpoint."""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_type_hints

import torch
from omegaconf import DictConfig, OmegaConf
from typeguard import TypeCheckError, check_type

from lm.config.keys import located, signature_of
from lm.config.plain_data import INSTANTIATE_KEYS
from lm.errors import UserError


def check(config: DictConfig) -> None:
    """Check names and types of all values against the signatures of what they build, and the devices."""
    for path, node in _nodes_with_target(config, ""):
        check_arguments(located(node._target_, path), node, path)
    if "fabric" in config and number_of_devices(config.fabric.devices) not in (1, None):
        raise UserError(
            f"fabric.devices={config.fabric.devices} given, but the text is read in order, by one device: use 1."
        )
    available = torch.cuda.device_count()  # Lightning's error names neither the available devices nor a remedy
    for name in ("fabric", "trainer"):
        node = config.get(name)
        if node and node.accelerator == "gpu" and (number_of_devices(node.devices) or 1) > available:
            raise UserError(
                f"{name}.accelerator=gpu with {name}.devices={node.devices} given, but this machine has {available} "
                f"CUDA GPUs: use fewer devices or {name}.accelerator=cpu."
            )


def snapshot(config: DictConfig) -> dict[str, Any]:
    """The config in primitive types, all interpolations resolved, with the text's folder as an absolute path.

    Loggers are left out: their values may be secret, such as the address of a server with a password.
    """
    without_loggers = OmegaConf.masked_copy(config, [str(key) for key in config if key != "logger"])
    plain = OmegaConf.to_container(without_loggers, resolve=True)
    assert isinstance(plain, dict)
    plain["data"]["root"] = str(Path(plain["data"]["root"]).expanduser().absolute())
    return {str(key): value for key, value in plain.items()}


def number_of_devices(devices: Any) -> int | None:
    """How many devices Lightning's `devices` asks for, by number or as indices; None for as many as there are."""
    if OmegaConf.is_list(devices):
        return len(devices)
    return devices if isinstance(devices, int) and devices > 0 else None


def _nodes_with_target(node: Any, path: str) -> Iterator[tuple[str, DictConfig]]:
    if isinstance(node, DictConfig):
        if "_target_" in node:
            yield path, node
        for key in node:
            yield from _nodes_with_target(node[key], f"{path}.{key!s}".lstrip("."))


def check_arguments(function: Callable[..., Any], values: Mapping[str, Any], path: str = "") -> None:
    """Check the names and types of `values`, at `path` in a config, against the parameters of `function`."""
    signature, hints = _signature(function)
    takes_any = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    for name in (name for name in values if name not in INSTANTIATE_KEYS):
        key = f"{path}.{name}".lstrip(".")
        if name not in signature.parameters and not takes_any:
            known = [name for name in signature.parameters if name not in ("self", "args", "kwargs")]
            near = "".join(f"; did you mean {each}?" for each in get_close_matches(name, known, n=1)) or "."
            raise UserError(f"{key} is unknown: {path or function.__name__} takes {', '.join(known)}{near}")
        value = values[name]
        if name not in hints or (isinstance(value, DictConfig) and "_target_" in value):
            continue
        plain = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        alternatives = [plain, tuple(plain)] if isinstance(plain, list) else [plain]
        if not any(_fits(each, hints[name]) for each in alternatives):
            hint = hints[name]
            expected = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
            raise UserError(f"{key}={value} given, but it must be of type {expected}.")


def _fits(value: Any, hint: Any) -> bool:
    if isinstance(value, bool) and hint is not Any and "bool" not in str(hint):
        return False  # Python counts True as 1; in a config it is a slip
    try:
        check_type(value, hint)
    except TypeCheckError:
        return False
    return True


@functools.cache
def _signature(target: Callable[..., Any]) -> tuple[inspect.Signature, dict[str, Any]]:
    """The parameters of a callable, and the types of those whose hints can be evaluated."""
    function = target.__init__ if inspect.isclass(target) else target
    try:
        hints = get_type_hints(function)
    except (NameError, TypeError):  # a type that exists only for type checkers
        hints = {}
    return signature_of(target), hints
