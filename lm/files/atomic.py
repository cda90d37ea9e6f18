"""Atomic writes: a file or folder appears complete under its name, or not at all."""

import errno
import io
import os
import re
import secrets
import shutil
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO

import psutil

from lm.files.errors import explain_os_errors
from lm.files.streams import is_stream, is_writable, open_stream

_live: set[str] = set()  # temporaries that this process is writing


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file to write to, which replaces `path` when the block ends without an error.

    A symbolic link stays one, and its target is replaced, keeping mode and owner. A stream is written in place.
    """
    if is_stream(path):
        content = io.BytesIO()  # writers may seek
        yield content
        with open_stream(path) as stream:
            stream.write(content.getbuffer())
        return
    target = _replaceable(path)
    with temporary(target.parent) as unfinished:
        with unfinished.open("xb") as file:
            yield file
        replace(unfinished, target)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a folder to write files into, which takes the name `path` when the block ends without an error."""
    target = path.resolve()
    if is_stream(path) or target.is_file() or (target.is_dir() and any(target.iterdir())):
        reason = "it exists and is not an empty folder: give another folder or delete it"
        raise FileExistsError(errno.EEXIST, reason, str(path))
    with temporary(target.parent) as unfinished:
        unfinished.mkdir()
        yield unfinished
        for file in unfinished.iterdir():
            _sync(file)
        replace(unfinished, target)


def check_writable(path: str | Path) -> None:
    """Check, before long work, that `path` can be written; leaves nothing behind, no folder either."""
    path = Path(path).expanduser()
    with explain_os_errors(f"write {path}"):
        if not is_stream(path):
            with temporary(_existing(_replaceable(path).parent)) as file:
                file.write_bytes(bytes(4096))
        elif not is_writable(path):
            raise PermissionError(errno.EACCES, "it is not open for writing", str(path))


@contextmanager
def temporary(folder: Path) -> Iterator[Path]:
    """Yield an unused path in `folder`, which is created if needed, and remove what is there on exit.

    Its name begins with a dot and ends with `.tmp`, so that it is not mistaken for a checkpoint, and contains host
    and process, so that the next writer removes what a killed process left behind.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _remove_stale(folder)
    path = folder / f".lm.{socket.gethostname()}.{os.getpid()}.{secrets.token_hex(8)}.tmp"
    _live.add(path.name)
    try:
        yield path
    finally:
        _remove(path)
        _live.discard(path.name)


def replace(unfinished: Path, target: Path) -> None:
    """Replace `target` by a complete file or folder once that is synced to disk, keeping mode and owner."""
    _sync(unfinished)
    if target.exists():
        old = target.stat()
        with suppress(OSError):  # only root may change the owner
            os.chown(unfinished, old.st_uid, old.st_gid)
        unfinished.chmod(stat.S_IMODE(old.st_mode))
    unfinished.replace(target)
    with suppress(OSError):  # the rename is done already
        _sync(target.parent)


def _replaceable(path: Path) -> Path:
    """The file that a write to `path` replaces: what a link names, which need not exist."""
    with suppress(FileNotFoundError):  # a folder's permissions alone would let a protected file be replaced
        os.close(os.open(path, os.O_WRONLY))
    return path.resolve()


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(each for each in (folder, *folder.parents) if each.exists())


def _sync(path: Path) -> None:
    """Sync a file, or a folder where the file system supports it, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError) if path.is_dir() else nullcontext():
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_stale(folder: Path) -> None:
    """Remove the temporaries of processes of this host that have ended."""
    name = re.compile(rf"\.lm\.{re.escape(socket.gethostname())}\.(\d+)\.[0-9a-f]+\.tmp")
    for path in folder.iterdir():
        if (found := name.fullmatch(path.name)) and path.name not in _live:
            process = int(found[1])
            if process == os.getpid() or not psutil.pid_exists(process):
                _remove(path)


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
