"""The composed config: checked before any work, and kept with the checkpoint."""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_type_hints

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from typeguard import TypeCheckError, check_type

from lm.errors import UserError
from lm.launch import check_shared_name, in_submitit_job
from lm.ops import check_precision
from lm.plain import check_plain
from lm.training_checks import check_training

LARGEST_VOCABULARY = 2**31 - 1  # word numbers are int32
RESERVED = ("_target_", "_partial_", "_convert_", "_recursive_")  # Hydra's own words


def check(config: DictConfig) -> None:
    """Check names and types of all values against the signatures of what they build; build model and optimizer once.

    The model is built without memory, for the largest vocabulary, so that its own checks run before any text is read.

    Raises:
        UserError: for the first value that does not fit.
    """
    for path, node in _nodes_with_target(config, ""):
        check_arguments(get_object(node._target_), node, path)
    if "fabric" in config:
        _check_one_device(config.fabric.devices)
        _check_gpus(config.fabric, "fabric")
    if "trainer" in config:
        _check_gpus(config.trainer, "trainer")
        _check_processes(config.trainer)
    if "model" in config:
        _check_pretrained(config)
        _check_optimizer(config)
        with torch.device("meta"):
            model = instantiate(config.model, vocabulary_size=LARGEST_VOCABULARY)
        check_precision(model, config.trainer.precision, config.trainer.accelerator, "trainer.precision")
        check_plain(snapshot(config), "config")  # else no checkpoint of this run could be loaded


def snapshot(config: DictConfig) -> dict[str, Any]:
    """The config in primitive types, all interpolations resolved, with the text's folder as an absolute path."""
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    plain["data"]["root"] = str(Path(plain["data"]["root"]).expanduser().absolute())
    return {str(key): value for key, value in plain.items()}


def _check_one_device(devices: Any) -> None:
    if _number(devices) != 1:
        raise UserError(f"fabric.devices={devices} given, but the text is read in order, by one device: use 1.")


def _check_gpus(node: DictConfig, name: str) -> None:
    """Check for GPUs that Lightning would miss without saying what there is, or what to do."""
    there = torch.cuda.device_count()
    if node.accelerator == "gpu" and _number(node.devices) > there:
        raise UserError(
            f"{name}.accelerator=gpu with {name}.devices={node.devices} given, but this machine has {there} CUDA GPUs: "
            f"use fewer devices or {name}.accelerator=cpu."
        )


def _number(devices: Any) -> int:
    """How many devices are asked for, at least."""
    if OmegaConf.is_list(devices):
        return len(devices)
    return devices if isinstance(devices, int) and devices > 0 else 1


def _check_processes(trainer: DictConfig) -> None:
    """Check that processes which must agree can, and that a multirun keeps to one for each job."""
    devices = trainer.devices
    if not HydraConfig.initialized():
        return
    check_shared_name()
    several = devices != 1 or trainer.num_nodes != 1 or "ddp" in str(trainer.strategy)
    if several and HydraConfig.get().mode == RunMode.MULTIRUN and not in_submitit_job():
        raise UserError(
            f"trainer.devices={devices} given in a multirun, whose jobs run in one process each: use trainer=cpu or "
            "trainer=gpu with trainer.devices=1, hydra/launcher=submitit_slurm with hydra.launcher.tasks_per_node, "
            "or train one config at a time without -m."
        )


def _check_pretrained(config: DictConfig) -> None:
    """Look for the word vectors that a new run begins with."""
    path = OmegaConf.select(config, "model.embedding.pretrained")
    if path and config.ckpt is None and not Path(path).expanduser().is_file():
        raise UserError(f"model.embedding.pretrained={path} given, but there is no such file.")


def _check_optimizer(config: DictConfig) -> None:
    """Build the optimizer and the schedule for one parameter, so that their own checks run."""
    try:
        optimizer = instantiate(config.optimizer)([torch.nn.Parameter(torch.zeros(1))])
    except ValueError as error:
        raise UserError(f"optimizer: {error}.") from error
    if config.optimizer.get("maximize"):
        raise UserError("optimizer.maximize=true given, but the loss is to fall: leave it out.")
    schedule = instantiate(config.scheduler)(optimizer, total_steps=100)
    check_training(config, schedule_monitors="monitor" in schedule)
    if str(config.trainer.precision) in ("16", "16-mixed") and config.optimizer.get("fused"):
        raise UserError(
            f"trainer.precision={config.trainer.precision} given, whose scaled gradients a fused optimizer lets nobody "
            "clip or measure: set optimizer.fused=false, or trainer.precision=bf16-mixed."
        )


def _nodes_with_target(node: Any, path: str) -> Iterator[tuple[str, DictConfig]]:
    if isinstance(node, DictConfig):
        if "_target_" in node:
            yield path, node
        for key in node:
            yield from _nodes_with_target(node[key], f"{path}.{key!s}".lstrip("."))


def check_arguments(function: Callable[..., Any], values: Mapping[str, Any], path: str = "") -> None:
    """Check the names and types of `values` against the parameters of `function`.

    Raises:
        UserError: for the first value that does not fit; `path` says where in the config it stands.
    """
    signature, hints = _signature(function)
    takes_any = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    for name in (name for name in values if name not in RESERVED):
        key = f"{path}.{name}".lstrip(".")
        if name not in signature.parameters and not takes_any:
            known = ", ".join(name for name in signature.parameters if name not in ("self", "args", "kwargs"))
            raise UserError(f"{key} is unknown: {path} takes {known}.")
        value = values[name]
        if name in hints and not (isinstance(value, DictConfig) and "_target_" in value):
            _check_type(key, value, hints[name])


def _check_type(key: str, value: Any, hint: Any) -> None:
    value = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
    alternatives = [value, tuple(value)] if isinstance(value, list) else [value]
    if not any(_fits(alternative, hint) for alternative in alternatives):
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
    """The parameters of what is called, and the types of those that can be told."""
    function = target.__init__ if inspect.isclass(target) else target
    try:
        hints = get_type_hints(function)
    except (NameError, TypeError):  # a type that exists only for checkers
        hints = {}
    return inspect.signature(target), hints
