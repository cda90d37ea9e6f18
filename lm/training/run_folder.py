"""Run and sweep folders, each used by only one process, or the processes of one run, at a time."""

import atexit
import fcntl
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import psutil
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, read_write

from lm.config.launch import has_shared_name, is_first_process
from lm.errors import UserError
from lm.files.errors import explain_os_errors
from lm.files.text import write_text
from lm.training.runs import CONFIG_FILE, METRICS_FILE, OVERRIDES_FILE

LOCK = ".lock"
EARLIER_SWEEP = ("multirun.yaml", "sweep.csv", "**/.hydra")  # files of an earlier sweep

_held: dict[Path, TextIO] = {}


class RunFolder(Callback):
    """Before Hydra writes anything, gives a run or a sweep its own folder, or locks the given one."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        self._take(config, "run")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
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
            sys.exit(str(error))  # Hydra turns any other exception into a warning


def create(folder: Path) -> Path:
    """Create a folder, with _2, _3, … appended if the name is taken, and return its path.

    When this process ends, it is removed if no run has begun to train in it: the run was refused, or resumes another.
    """
    path, number = folder, 1
    with explain_os_errors(f"write {folder}"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                path.mkdir()
                break
            except FileExistsError:
                number += 1
                path = folder.with_name(f"{folder.name}_{number}")
    atexit.register(remove_unused, path.absolute())
    return path


def continue_folder(folder: str | Path) -> None:
    """Let a resumed run's folder have this run's config, and no results until it has ended."""
    if not is_first_process():
        return
    Path(folder, METRICS_FILE).unlink(missing_ok=True)
    if HydraConfig.initialized():
        hydra = HydraConfig.get()
        config = Path(hydra.runtime.output_dir, CONFIG_FILE)
        if config.is_file() and not Path(folder).samefile(hydra.runtime.output_dir):
            write_text(config.read_text("utf-8"), Path(folder, CONFIG_FILE))
            overrides = [each for each in hydra.overrides.task if not each.startswith("ckpt=")]
            write_text(yaml.safe_dump(overrides), Path(folder, OVERRIDES_FILE))


@contextmanager
def locked(folder: str | Path) -> Iterator[None]:
    """Lock a folder for a block."""
    path = Path(folder).absolute()
    was_held = path in _held
    hold(path)
    try:
        yield
    finally:
        if not was_held:
            _release(path)


def hold(folder: Path) -> None:
    """Lock a folder until this process ends, in any way; of the processes of one run, rank 0 takes the lock."""
    folder = folder.absolute()
    if folder in _held or not is_first_process():
        return
    with explain_os_errors(f"write {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        file = Path(folder, LOCK).open("a+", encoding="utf-8")  # noqa: SIM115  (open until this process ends)
    file.seek(0)
    pid, _, host = file.read().strip().partition(" ")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_free = True
    except BlockingIOError:
        is_free = False
    except OSError:  # a file system without locks: another host's process cannot be detected
        is_free = not pid or (host == socket.gethostname() and not psutil.pid_exists(int(pid)))
    if not is_free:
        file.close()
        raise UserError(
            f"{folder} is used by process {pid or 'unknown'} on {host or 'unknown'}: wait until it has ended, stop it, "
            "or choose another folder by hydra.run.dir or, for a sweep, hydra.sweep.dir."
        )
    file.truncate(0)
    print(os.getpid(), socket.gethostname(), file=file, flush=True)
    _held[folder] = file
    atexit.register(_release, folder)


def _release(folder: Path) -> None:
    if file := _held.pop(folder, None):
        file.truncate(0)
        file.close()


def remove_unused(folder: Path) -> None:
    """Remove a run folder in which no run has begun to train."""
    if folder.is_dir() and {path.name for path in folder.iterdir()} <= {".hydra", LOCK}:
        _release(folder)
        shutil.rmtree(folder, ignore_errors=True)
