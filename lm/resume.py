"""Going on with a run that was killed: which checkpoint, and whether it is of the same kind."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from lm import checkpoint
from lm.config import snapshot
from lm.errors import UserError
from lm.launch import started_again

SAME = ("data", "model", "optimizer", "scheduler", "seed")  # what a run must keep; the trainer may change


def continue_run(config: DictConfig) -> Path | None:
    """The checkpoint to go on from, or None for a new run; points `config` at the old run's folder.

    A command that SLURM or torchrun starts again goes on with its own run.

    Raises:
        UserError: if there is none, it is of another config, or a new run would overwrite an old one.
    """
    own = Path(config.run_dir, "checkpoints", "last.ckpt").absolute()
    if config.ckpt == "last":
        path, stored = _newest(config)
    elif config.ckpt is not None:
        path = Path(config.ckpt).expanduser().absolute()
        stored = checkpoint.load(path)
    elif started_again() and own.exists():
        path, stored = own, checkpoint.load(own)
    elif started_again() or not any(own.parent.glob("*.ckpt")):
        return None
    else:
        raise UserError(
            f"{config.run_dir} holds checkpoints of another run: go on with it by ckpt={own}, "
            "or choose another hydra.run.dir."
        )
    for key in _differences({name: stored.config.get(name) for name in SAME}, _compared(config)):
        raise UserError(
            f"The run of ckpt={path} had another {key}: go on with the same one, "
            f"or begin a new run without ckpt. Only the trainer, callbacks and logger may change."
        )
    config.run_dir = str(path.parent.parent if path.parent.name == "checkpoints" else path.parent)
    # TensorBoard hides what came after the checkpoint; the CSV begins another file
    tensorboard: dict[str, Any] = {"purge_step": stored.step}
    csv: dict[str, Any] = {"version": f"csv_{stored.step}"}
    for logger, changes in {"tensorboard": tensorboard, "csv": csv}.items():
        if logger in config.logger:
            config.logger[logger] = {**config.logger[logger], **changes}
    return path


def _newest(config: DictConfig) -> tuple[Path, checkpoint.Checkpoint]:
    runs = Path(config.run_dir).absolute().parent
    wanted = _compared(config)
    for path in sorted(runs.glob("*/checkpoints/last.ckpt"), key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            stored = checkpoint.load(path)
        except UserError:
            continue  # damaged, or from elsewhere
        if {name: stored.config.get(name) for name in SAME} == wanted:
            return path, stored
    raise UserError(f"ckpt=last given, but no run in {runs} has this config and a last.ckpt: begin one without ckpt.")


def _compared(config: DictConfig) -> dict[str, Any]:
    plain = snapshot(config)
    return {name: plain[name] for name in SAME}


def _differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            yield from _differences(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))
    elif old != new:
        yield f"{path} ({old}, now {new})"
