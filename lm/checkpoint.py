"""A checkpoint stands alone: weights, config and vocabulary, in primitive types."""

import pickle
import zipfile
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from torch import Tensor

from lm.data.vocabulary import Vocabulary
from lm.errors import UserError
from lm.find_checkpoint import find_checkpoint
from lm.models import TokenModel

KEY = "lm"  # where our own entry stands among Lightning's
WEIGHTS = "model."  # what Lightning puts before the names of the model's weights


class Checkpoint(NamedTuple):
    """What is needed to use a trained model: its whole config, words and weights, and the steps it was trained for."""

    config: dict[str, Any]
    vocabulary: Vocabulary
    weights: dict[str, Tensor]
    step: int


def entry(config: dict[str, Any], vocabulary: Vocabulary) -> dict[str, Any]:
    """What we add to Lightning's checkpoint, under KEY."""
    return {"config": config, "vocabulary": vocabulary.words}


def load(path: str | Path) -> Checkpoint:
    """Read a checkpoint onto the CPU without running any code that it may carry.

    Raises:
        UserError: if the file is missing, damaged, refused, or not a checkpoint of this project.
    """
    path = find_checkpoint(path)
    try:
        _check_parts(path)
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(f"The checkpoint {path} is refused: it holds objects that could run code.") from error
    except Exception as error:  # bytes at random fail in many ways
        raise UserError(f"The checkpoint {path} is damaged or not a checkpoint: use another one.") from error
    try:
        assert sum(weight.nbytes for weight in stored["state_dict"].values()) <= 2 * path.stat().st_size  # tied: twice
        return checked(stored["state_dict"], stored["global_step"], **stored[KEY])
    except Exception as error:  # whatever a stranger may have put there
        raise UserError(f"The checkpoint {path} is not one of this project: use one of scripts/train.py.") from error


def checked(weights: dict[str, Tensor], step: int, config: dict[str, Any], vocabulary: list[str]) -> Checkpoint:
    """The parts of a stored model, where they are what they should be; else any exception."""
    assert isinstance(config, dict) and {"model", "data"} <= set(config)
    assert all(isinstance(word, str) for word in vocabulary)
    weights = {name.removeprefix(WEIGHTS): tensor for name, tensor in weights.items()}
    return Checkpoint(config, Vocabulary(vocabulary), weights, int(step))


def _check_parts(path: Path) -> None:
    """Check what torch.load does not: that nothing unpacks to more than the file, and that the checksums are right."""
    with zipfile.ZipFile(path) as parts:
        if sum(part.file_size for part in parts.infolist()) > path.stat().st_size:
            raise ValueError("its parts are larger than the file")
        if damaged := parts.testzip():
            raise ValueError(f"the checksum of {damaged} is wrong")


def build_model(checkpoint: Checkpoint) -> TokenModel:
    """The trained model, in evaluation mode.

    Raises:
        UserError: if the config names anything but our models, or does not fit the weights.
    """
    config = checkpoint.config["model"]
    refuse_foreign_targets(config, "lm.models.")
    build = partial(instantiate, config, vocabulary_size=len(checkpoint.vocabulary))
    try:
        if config["core"].get("num_layers", 1) > len(checkpoint.weights):
            raise ValueError(f"{len(checkpoint.weights)} tensors for {config['core']['num_layers']} layers")
        with torch.device("meta"):  # sizes that only the config has must not take any memory
            build().load_state_dict(checkpoint.weights, assign=True)
        model = build()
        model.load_state_dict(checkpoint.weights)
    except (InstantiationException, RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"The checkpoint's weights do not fit its config: {error}") from error
    return model.eval()


def refuse_foreign_targets(config: Any, package: str) -> None:
    """Let a checkpoint's config build nothing but what is defined in `package`: `_target_` can name any function.

    Raises:
        UserError: if the config, which may come from a stranger, names anything else.
    """
    if isinstance(config, dict):
        if "_target_" in config and not _is_defined_in(config["_target_"], package):
            target = config["_target_"]
            raise UserError(f"The checkpoint is refused: its config would call {target}, which is not in {package}")
        for value in config.values():
            refuse_foreign_targets(value, package)
    elif isinstance(config, list | tuple | set):
        for value in config:
            refuse_foreign_targets(value, package)


def _is_defined_in(target: Any, package: str) -> bool:
    """A dotted name can lead out of the package again, through what its modules import."""
    if not (isinstance(target, str) and target.startswith(package)):
        return False
    try:
        found = get_object(target)
    except (ImportError, ValueError, AttributeError):
        return False
    return (getattr(found, "__module__", None) or "").startswith(package)
