"""Validation of what a resumed run reads from its checkpoint besides the model; errors in one line.

The file may be damaged, of another release or untrusted. Its parts are restored by Lightning and by optimizers,
each in its own way; a part that is missing would be left out without a word.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import torch
from lightning import Trainer
from torch import Tensor
from typeguard import CollectionCheckStrategy, TypeCheckError, check_type

from lm.config.cli import user_error_message
from lm.config.plain_data import cut, shown
from lm.errors import UserError


class _Process(TypedDict):
    state: Any
    random: dict[str, Any]
    nats: Tensor
    tokens: Tensor
    penalty: Tensor


class _Window(TypedDict):
    epoch: int
    position: int


class _Checksums(TypedDict):
    vocabulary: int
    train: int
    valid: int
    test: int


class _Resume(TypedDict):
    processes: list[_Process]
    windows: _Window
    text: _Checksums


KEY = "resume"  # the key of `lm.training.resume.ResumableCheckpoint`'s entry in a checkpoint
PARTS: dict[str, Any] = {
    KEY: _Resume,
    "epoch": int,
    "global_step": int,
    "loops": dict[str, dict[str, Any]],
    "optimizer_states": list[dict[str, Any]],
    "lr_schedulers": list[dict[str, Any]],
    "callbacks": dict[str, Any],
    "pytorch-lightning_version": str,
}
PROGRESS = ("epoch_progress", "epoch_loop.batch_progress", "epoch_loop.automatic_optimization.optim_progress")


class Resumed(NamedTuple):
    """The checkpoint that a run is resumed from."""

    path: Path
    step: int  # optimizer steps
    config: Mapping[str, Any]  # of the run that wrote it


def check_resumable(stored: Mapping[str, Any], path: Path) -> None:
    """Check that a checkpoint has everything needed to resume."""
    for name, expected in PARTS.items():
        try:
            check_type(stored.get(name), expected, collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
        except TypeCheckError as error:
            raise _not_resumable(path, f"its {name}: {cut(ascii(str(error))[1:-1])}") from error
    resume, loops = stored[KEY], stored["loops"].get("fit_loop", {})
    if lacking := [name for name in PROGRESS if name not in loops]:
        raise _not_resumable(path, f"its loops have no {lacking[0]}")
    if len(stored["optimizer_states"]) != 1 or len(stored["lr_schedulers"]) != 1:
        raise _not_resumable(path, "it has not the state of one optimizer and one scheduler")
    if not resume["processes"] or min(resume["windows"].values()) < 0:
        raise _not_resumable(path, "it has no process, or a window before the first")


@contextmanager
def one_line_if_not_restored(trainer: Trainer, resumed: Resumed | None) -> Iterator[None]:
    """Report in one line that a checkpoint cannot be restored if training fails before its first step."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        alone = trainer.world_size == 1  # else it may be that another process has failed
        if resumed is None or trainer.global_step > resumed.step or user_error_message(error) or not alone:
            raise
        raise _not_resumable(resumed.path, f"{type(error).__name__}: {shown(str(error))}") from error


def _not_resumable(path: Path, reason: str) -> UserError:
    return UserError(
        f"The run of ckpt={path} cannot be resumed ({reason}): use another last.ckpt, or begin a new run without ckpt."
    )
