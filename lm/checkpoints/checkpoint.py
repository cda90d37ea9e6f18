"""A checkpoint is self-contained: weights, config and vocabulary, in primitive types."""

import pickle
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lm.checkpoints.find import find_checkpoint
from lm.checkpoints.stored_model import check_weights, stored_model
from lm.config.plain_data import check_plain, shown
from lm.data.vocabulary import EOS, UNK, Vocabulary, is_word
from lm.errors import UserError
from lm.models import CausalLM

KEY = "lm"  # the key of our entry in Lightning's checkpoint
WEIGHTS = "model."  # Lightning's prefix of the names of the model's weights


class Checkpoint(NamedTuple):
    """Everything needed to use a trained model, and how long it was trained."""

    config: dict[str, Any]
    vocabulary: Vocabulary
    weights: dict[str, Tensor]
    step: int  # optimizer steps
    epoch: int  # complete epochs


def entry(config: dict[str, Any], vocabulary: Vocabulary) -> dict[str, Any]:
    """Our entry in Lightning's checkpoint, under KEY."""
    return {"config": config, "vocabulary": vocabulary.words}


def load(path: str | Path) -> Checkpoint:
    """Read a checkpoint onto the CPU without executing any code in it."""
    path = find_checkpoint(path)
    try:
        _check_parts(path)
        stored = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(f"The checkpoint {path} is refused: it holds objects that could run code.") from error
    except Exception as error:  # damaged files raise many errors
        raise UserError(f"The checkpoint {path} is damaged or not a checkpoint: use another one.") from error
    try:
        entry = stored[KEY]
        progress = {key: stored[key] for key in ("global_step", "epoch")}
        return checked(stored["state_dict"], entry["config"], entry["vocabulary"], **progress)
    except UserError as error:
        raise UserError(f"The checkpoint {path} is refused: {error}.") from error
    except Exception as error:  # untrusted files may contain anything
        raise UserError(f"The checkpoint {path} is not one of this project: use one of scripts/train.py.") from error


def checked(weights: Any, config: Any, vocabulary: Any, global_step: Any = 0, epoch: Any = 0) -> Checkpoint:
    """The validated parts of a stored model."""
    check_plain(config, "its config")
    sections = {f"config.{name}": config.get(name) for name in ("model", "data")} if type(config) is dict else {}
    for name, value in {"state_dict": weights, "config": config, **sections}.items():
        if not isinstance(value, dict):
            raise UserError(f"its {name} is {shown(value)}, but it must be a mapping")
    for name, count in {"global_step": global_step, "epoch": epoch}.items():
        if type(count) is not int or not 0 <= count < 2**63:
            raise UserError(f"its {name} is {shown(count)}, but it must be a whole number")
    check_weights(weights)
    named = {name.removeprefix(WEIGHTS): tensor for name, tensor in weights.items()}
    return Checkpoint(config, _checked_vocabulary(vocabulary), named, global_step, epoch)


def _checked_vocabulary(words: Any) -> Vocabulary:
    """The vocabulary of a stored model: a list of distinct words, including `<unk>` and `<eos>`."""
    if type(words) is not list:
        raise UserError(f"its vocabulary is {shown(words)}, but it must be a list")
    seen: set[str] = set()
    for i, word in enumerate(words):
        if type(word) is not str or not is_word(word):
            raise UserError(
                f"word {i} of its vocabulary is {shown(word)}, but it must be a text that is not empty, without "
                "white space and control characters"
            )
        if word in seen:
            raise UserError(f"word {i} of its vocabulary, {shown(word)}, is duplicated")
        seen.add(word)
    if lacking := {UNK, EOS} - seen:
        raise UserError(f"its vocabulary lacks {lacking.pop()}")
    return Vocabulary(words)


def _check_parts(path: Path) -> None:
    """Check what torch.load does not: that no archive expands beyond its size (zip bombs), and its checksums."""
    with zipfile.ZipFile(path) as parts:
        if sum(part.file_size for part in parts.infolist()) > path.stat().st_size:
            raise ValueError("its parts are larger than the file")
        if damaged := parts.testzip():
            raise ValueError(f"the checksum of {damaged} is wrong")


def build_model(checkpoint: Checkpoint) -> CausalLM:
    """The trained model, in evaluation mode."""
    try:
        return stored_model(checkpoint.config["model"], len(checkpoint.vocabulary), checkpoint.weights).eval()
    except UserError as error:
        raise UserError(f"The checkpoint is refused: {str(error).rstrip('.')}.") from error
