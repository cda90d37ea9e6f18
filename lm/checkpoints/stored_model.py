"""Build a model from a stored config, which may come from a stranger and is therefore only read, never run.

Hydra's `instantiate` would resolve interpolations and call whatever `_target_` names. Here each part of a model is one
of our own classes, looked up in a closed table, and each argument is plain data of the type that its class asks for.
A class that is to be loaded from checkpoints needs a row in PARTS.
"""

import inspect
import re
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lm.config.plain_data import MAX_LENGTH, check_plain, shown
from lm.config.validation import check_arguments
from lm.errors import UserError
from lm.models.adaptive import AdaptiveEmbedding, AdaptiveHead
from lm.models.causal_lm import CausalLM
from lm.models.embedding import TokenEmbedding
from lm.models.heads import SoftmaxHead
from lm.models.recurrent import RecurrentCore
from lm.models.transformer import TransformerCore

PARTS: dict[str, tuple[type, ...]] = {
    "embedding": (TokenEmbedding, AdaptiveEmbedding),
    "core": (RecurrentCore, TransformerCore),
    "head": (SoftmaxHead, AdaptiveHead),
}
GIVEN = {
    "embedding": {"vocabulary_size"},
    "core": {"input_size"},
    "head": {"hidden_size", "embedding"},
}  # by CausalLM
MAX_SIZE = 2**31 - 1  # of a whole number in a config


def stored_model(config: object, vocabulary_size: int, weights: Mapping[str, Tensor] | None = None) -> CausalLM:
    """The model that a stored config describes, with `weights` if there are any.

    Args:
        config: the section `model` of a training run's config, from a file.
        vocabulary_size: V.
        weights: by name, as `state_dict` gives them; their shapes are compared before the model takes any memory.

    Raises:
        UserError: if the config is not plain data for our own classes, or does not fit the weights.
    """
    check_plain(config, "model")
    build = _builder(config, vocabulary_size, MAX_LENGTH if weights is None else min(len(weights), MAX_LENGTH))
    if weights is None:
        return _built(build)
    check_weights(weights)
    with torch.device("meta"):
        _check_shapes({name: weight.shape for name, weight in _built(build).state_dict().items()}, weights)
    model = _built(build)
    model.load_state_dict(weights)
    return model


def check_weights(weights: Mapping[str, Tensor]) -> None:
    """Check that weights are finite real numbers, each with a place of its own in memory.

    Raises:
        UserError: for the first one that is not.
    """
    for name, weight in weights.items():
        if not isinstance(weight, Tensor) or weight.layout != torch.strided or weight.is_quantized:
            raise UserError(f"the weight {shown(name)} is not a dense tensor")
        if not weight.is_floating_point():
            raise UserError(f"the weight {shown(name)} is of {weight.dtype}, not of real numbers")
        if weight.untyped_storage().nbytes() < weight.nbytes:
            raise UserError(f"the weight {shown(name)} has more elements than numbers that are stored for it")
    storages = {storage.data_ptr(): storage.nbytes() for storage in map(Tensor.untyped_storage, weights.values())}
    if sum(weight.nbytes for weight in weights.values()) > 2 * sum(storages.values()):  # tied weights have two names
        raise UserError("the weights have more elements than numbers that are stored for them")
    for name, weight in weights.items():
        if not weight.isfinite().all():
            raise UserError(f"the weight {shown(name)} is not finite: training has diverged")


def _built(build: Callable[[], CausalLM]) -> CausalLM:
    try:
        return build()
    except UserError:
        raise
    except (RuntimeError, ValueError, TypeError, ArithmeticError) as error:  # sizes that no tensor can have
        raise UserError(f"no model has these sizes: {str(error).splitlines()[0]}") from error


def _builder(config: Any, vocabulary_size: int, most: int) -> Callable[[], CausalLM]:
    """What makes the model, when all that the config says has been checked."""
    _class_of(config, "model", (CausalLM,))
    _check_keys(config, "model", {"_target_", *PARTS}, {"output_dropout"})
    output_dropout = config.get("output_dropout", 0.0)
    check_arguments(CausalLM, {"output_dropout": output_dropout}, "model")
    parts = {slot: _part(config[slot], slot, most) for slot in PARTS}
    return partial(CausalLM, vocabulary_size, **parts, output_dropout=output_dropout)


def _part(config: Any, slot: str, most: int) -> Callable[..., Any]:
    """The part of a model in `slot`, but for what CausalLM gives it."""
    path = f"model.{slot}"
    made = _class_of(config, path, PARTS[slot])
    parameters = {name: each for name, each in inspect.signature(made).parameters.items() if name not in GIVEN[slot]}
    needed = {name for name, parameter in parameters.items() if parameter.default is parameter.empty}
    _check_keys(config, path, {"_target_", "_partial_", *needed}, set(parameters))
    arguments = {name: value for name, value in config.items() if name in parameters}
    check_arguments(made, arguments, path)
    for name, value in arguments.items():
        _check_size(value, f"{path}.{name}", most if name == "num_layers" else MAX_SIZE, most)
    arguments.pop("pretrained", None)  # a path on its author's machine; the weights are here
    return partial(made, **arguments)


def _class_of(config: Any, path: str, classes: tuple[type, ...]) -> type:
    """The class that a config names, if it is one of `classes`."""
    if type(config) is not dict:
        raise UserError(f"{path} is {shown(config)}, but it must be a mapping")
    target = config.get("_target_")
    for made in classes:
        if target == f"lm.models.{made.__name__}":
            return made
    names = " or ".join(f"lm.models.{made.__name__}" for made in classes)
    called = target if type(target) is str and re.fullmatch(r"[\w.]{1,60}", target) else shown(target)
    raise UserError(f"its config would call {called} as {path}, but only {names} can be loaded")


def _check_keys(config: Mapping[str, Any], path: str, needed: set[str], optional: Collection[str] = ()) -> None:
    for name in config:
        if name not in needed and name not in optional:
            raise UserError(f"{path}.{name} is unknown: there may be {', '.join(sorted({*needed, *optional}))}")
    for name in sorted(needed - set(config)):
        raise UserError(f"{path}.{name} is missing")
    if config.get("_partial_", True) is not True:
        raise UserError(f"{path}._partial_ is {shown(config['_partial_'])}, but it must be true")


def _check_size(value: Any, path: str, largest: int, longest: int) -> None:
    """Check numbers, and lists of numbers, before anything is made of them."""
    if isinstance(value, dict):
        raise UserError(f"{path} is a mapping, but it must be a number, a word or a list of numbers")
    if isinstance(value, list):
        if len(value) > longest:
            raise UserError(f"{path} has {len(value)} entries, but there are only {longest} weights")
        for each in value:
            _check_size(each, path, largest, longest)
    elif isinstance(value, int) and abs(value) > largest:
        raise UserError(f"{path} is {shown(value)}, but it can be at most {largest} here")


def _check_shapes(expected: Mapping[str, torch.Size], weights: Mapping[str, Tensor]) -> None:
    if unknown := set(weights) - set(expected):
        raise UserError(f"the weights do not fit the config: it has no {shown(unknown.pop())}")
    for name, shape in expected.items():
        if name not in weights:
            raise UserError(f"the weights do not fit the config: {name} is missing")
        if weights[name].shape != shape:
            sizes = f"{list(weights[name].shape)}, not {list(shape)}"
            raise UserError(f"the weights do not fit the config: {name} is of the shape {sizes}")
