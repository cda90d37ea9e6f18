"""The folder of a run or a sweep belongs to one process, or to the processes of one run, at a time."""

import atexit
import fcntl
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, TextIO

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, read_write

from lm.config.launch import has_shared_name, is_first_process
from lm.errors import UserError
from lm.files import refusals

LOCK = ".lock"
EARLIER_SWEEP = ("multirun.yaml", "sweep.csv", "**/.hydra")  # what one leaves behind

_held: dict[Path, TextIO] = {}
_created: set[Path] = set()


class RunFolder(Callback):
    """Before Hydra writes anything, gives a run or a sweep a folder of its own, or locks the one that was asked for."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Take hydra.run.dir."""
        self._take(config, "run")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Take hydra.sweep.dir."""
        self._take(config, "sweep")

    def _take(self, config: DictConfig, mode: str) -> None:
        if not is_first_process():
            return
        node = config.hydra[mode]
        pattern = OmegaConf.to_container(node, resolve=False)["dir"]  # type: ignore[index, call-overload]
        is_dated = any(name in str(pattern) for name in ("${run_name:", "${now:"))
        try:
            if is_dated and not has_shared_name():
                with read_write(config.hydra):
                    node.dir = str(create(Path(node.dir)))
            hold(Path(node.dir))
            if mode == "sweep" and any(any(Path(node.dir).glob(name)) for name in EARLIER_SWEEP):
                raise UserError(f"{node.dir} holds the jobs of an earlier sweep: choose another hydra.sweep.dir.")
        except UserError as error:
            sys.exit(str(error))  # Hydra makes a warning of any other exception


def create(folder: Path) -> Path:
    """Create a folder, under its name with _2, _3, … where another process was quicker, and return its path."""
    with refusals(f"write {folder}"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            path = folder if number == 1 else folder.with_name(f"{folder.name}_{number}")
            try:
                path.mkdir()
            except FileExistsError:
                continue
            _created.add(path.absolute())
            break
    return path


@contextmanager
def locked(folder: str | Path) -> Iterator[None]:
    """Hold a folder in a block; where this process has created another one for the run, that is left.

    Raises:
        UserError: if another process holds it.
    """
    path = Path(folder).absolute()
    for unused in _created - {path}:
        if (unused / LOCK).exists():
            atexit.register(_remove_unused, unused)
    is_ours = path in _held
    hold(path)
    try:
        yield
    finally:
        if not is_ours and path in _held:
            _release(path)


def hold(folder: Path) -> None:
    """Lock a folder until this process ends, however it ends; of several processes of one run, the first does.

    Raises:
        UserError: if another process holds it.
    """
    folder = folder.absolute()
    if folder in _held or not is_first_process():
        return
    with refusals(f"write {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        file = Path(folder, LOCK).open("a+", encoding="utf-8")  # noqa: SIM115  (open until this process ends)
    file.seek(0)
    holder = file.read().split()
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        is_free = False
    except OSError:  # a file system without locks
        is_free = not _may_run(holder)
    else:
        is_free = True
    if not is_free:
        file.close()
        pid, host = holder if len(holder) == 2 else ("unknown", "unknown")
        raise UserError(
            f"{folder} is used by process {pid} on {host}: wait until it has ended, stop it, or choose another folder "
            "by hydra.run.dir or, for a sweep, hydra.sweep.dir."
        )
    file.truncate(0)
    print(os.getpid(), socket.gethostname(), file=file, flush=True)
    _held[folder] = file
    atexit.register(_release, folder)


def _may_run(holder: list[str]) -> bool:
    """Whether a process that has left its number and host may still run; on another host nobody can tell."""
    if len(holder) != 2 or holder[1] != socket.gethostname():
        return bool(holder)
    try:
        os.kill(int(holder[0]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # of another user
    return True


def _release(folder: Path) -> None:
    if file := _held.pop(folder, None):
        file.truncate(0)
        file.close()


def _remove_unused(folder: Path) -> None:
    """Remove the folder that Hydra made for a run which then went on in another."""
    if folder.is_dir() and {path.name for path in folder.iterdir()} <= {".hydra", LOCK}:
        _release(folder)
        shutil.rmtree(folder, ignore_errors=True)
