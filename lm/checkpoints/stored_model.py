"""Build a model from a stored config, which is untrusted: it is read as data, and nothing that it names is called.

Hydra's `instantiate` would resolve interpolations and call whatever `_target_` names. Here each part of a model is a
class that `lm.models` exports, and each argument is plain data of the type that its class asks for.
"""

import inspect
import re
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import lm.models
from lm.config.plain_data import MAX_LENGTH, shown
from lm.config.ranges import RANGES
from lm.config.validation import check_arguments
from lm.errors import UserError
from lm.models import CausalLM, Core, Head

COUNTS = ("num_layers", "rounds")  # of modules, each of which has weights
MAX_SIZE = 2**31 - 1  # of an integer in a config, where lm.config.ranges allows no less


def exported(is_part: Callable[[type], bool]) -> tuple[type, ...]:
    """The concrete classes that `lm.models` defines and exports."""
    everything = [getattr(lm.models, name) for name in lm.models.__all__]
    modules = [each for each in everything if inspect.isclass(each) and issubclass(each, nn.Module)]
    own = [each for each in modules if each.__module__.startswith("lm.models.") and not inspect.isabstract(each)]
    return tuple(filter(is_part, own))


# the loadable classes, and how many of their first arguments CausalLM provides
PARTS = {
    "embedding": (exported(lambda each: each.__name__.endswith("Embedding")), 1),
    "core": (exported(lambda each: issubclass(each, Core)), 1),
    "head": (exported(lambda each: issubclass(each, Head)), 2),
}


def stored_model(config: Any, vocabulary_size: int, weights: Mapping[str, Tensor] | None = None) -> CausalLM:
    """The model that a stored config describes, with `weights` if there are any.

    Args:
        config: the section `model` of a training run's config, which `check_plain` has passed.
        vocabulary_size: V.
        weights: by name, as `state_dict` gives them, which `check_weights` has passed; their shapes are compared
            before the model takes any memory.
    """
    longest = MAX_LENGTH if weights is None else min(len(weights), MAX_LENGTH)
    whole = _partial(config, "model", (CausalLM,), 1 + len(PARTS), longest, others=PARTS)
    parts = {
        slot: _partial(config.get(slot), f"model.{slot}", classes, given, longest)
        for slot, (classes, given) in PARTS.items()
    }
    build = partial(whole, vocabulary_size, **parts)
    if weights is None:
        return _built(build)
    with torch.device("meta"):
        shapes = {name: weight.shape for name, weight in _built(build).state_dict().items()}
    _check_shapes(shapes, weights)
    with WithoutRandomWeights():
        model = _built(build)
    model.load_state_dict(weights)
    return model


class WithoutRandomWeights(TorchFunctionMode):
    """Leaves weights as they are where a module would draw them, which takes longer than to load them."""

    DRAWS = (nn.init.uniform_, nn.init.normal_, nn.init.kaiming_uniform_, Tensor.uniform_, Tensor.normal_)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function in self.DRAWS:
            return args[0] if args else kwargs["tensor"]
        return function(*args, **kwargs)


def check_weights(weights: Mapping[str, Tensor]) -> None:
    """Check that weights are finite real numbers without shared memory, except tied weights."""
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
        if weight.numel() and not all(extreme.isfinite() for extreme in weight.aminmax()):  # one pass; NaN is both
            raise UserError(f"the weight {shown(name)} is not finite: training has diverged")


def _built(build: Callable[[], CausalLM]) -> CausalLM:
    try:
        return build()
    except UserError:
        raise
    except (RuntimeError, ValueError, TypeError, ArithmeticError) as error:  # impossible tensor sizes
        raise UserError(f"no model has these sizes: {str(error).splitlines()[0]}") from error


def _partial(
    config: Any, path: str, classes: tuple[type, ...], given: int, longest: int, others: Collection[str] = ()
) -> Callable[..., Any]:
    """The one of `classes` that `config` names, with all its arguments but the first, `given` ones, once checked."""
    made = _class_of(config, path, classes)
    parameters = dict(list(inspect.signature(made).parameters.items())[given:])
    known = {"_target_", "_partial_", *parameters, *others}
    for name in config:
        if name not in known:
            raise UserError(f"{path}.{name} is unknown: there may be {', '.join(sorted(known))}")
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in config:
            raise UserError(f"{path}.{name} is missing")
    if config.get("_partial_", True) is not True:
        raise UserError(f"{path}._partial_ is {shown(config['_partial_'])}, but it must be true")
    arguments = {name: value for name, value in config.items() if name in parameters}
    check_arguments(made, arguments, path)
    for name, value in arguments.items():
        allowed = RANGES.get(f"{path}.{name}")
        largest = longest if name in COUNTS else int(min(allowed.high, MAX_SIZE)) if allowed else MAX_SIZE
        _check_size(value, f"{path}.{name}", largest, longest)
    arguments.pop("pretrained", None)  # a path on the author's machine, not needed with the stored weights
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


def _check_size(value: Any, path: str, largest: int, longest: int) -> None:
    """Check numbers, and lists of numbers, before anything is built from them."""
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
