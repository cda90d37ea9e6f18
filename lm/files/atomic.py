"""Atomic writes: a file or folder appears whole under its name, or not at all.

Only a regular file and a free name can be replaced atomically. A device, a FIFO or an open descriptor (/dev/null,
/dev/stdout, a shell's >(command)) is opened and written, and stays what it is.
"""

import contextlib
import errno
import fcntl
import io
import os
import re
import secrets
import shutil
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import psutil

_live: set[str] = set()  # temporaries that this process is writing


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file to write to; when the block ends well, and all is on the disk, it takes the name `path` at once.

    A kill or an error in between leaves whatever stood at `path` untouched. A symbolic link stays one, and what it
    names is replaced; a file that is replaced keeps its mode and its owner.

    Raises:
        OSError: if it cannot be written.
    """
    if is_stream(path):
        content = io.BytesIO()
        yield content
        with _open_stream(path) as stream:
            stream.write(content.getbuffer())
        return
    target = replaceable(path)
    with temporary(target.parent) as unfinished:
        with unfinished.open("xb") as file:
            yield file
            file.flush()
            _sync(file.fileno(), target)
        replace(unfinished, target)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a folder to write files into; when the block ends well, it takes the name `path` at once.

    Raises:
        OSError: if it cannot be written, or something stands at `path` other than an empty folder.
    """
    target = Path(os.path.realpath(path))
    if is_stream(path) or (target.exists() and not (target.is_dir() and not any(target.iterdir()))):
        raise FileExistsError(errno.EEXIST, "something stands there, give another folder or delete it", str(path))
    with temporary(target.parent) as unfinished:
        unfinished.mkdir()
        yield unfinished
        for file in unfinished.iterdir():
            sync(file)
        sync(unfinished, target)
        replace(unfinished, target)


@contextmanager
def temporary(folder: Path) -> Iterator[Path]:
    """Yield a free name in `folder`, and remove what stands there in the end.

    It begins with a dot and ends with `.tmp`, so that nothing takes it for what it will become, and names host and
    process: what a process left behind that was killed is removed by the next writer on its host.

    Raises:
        OSError: if there can be no such folder.
    """
    make_folder(folder)
    _remove_abandoned(folder)
    path = folder / f"{_prefix()}{os.getpid()}.{secrets.token_hex(8)}.tmp"
    _live.add(path.name)
    try:
        yield path
    finally:
        _remove(path)
        _live.discard(path.name)


def replace(unfinished: Path, target: Path) -> None:
    """Give what is whole, and on the disk, its name, and wait until the folder's entry is on the disk, too."""
    unfinished.replace(target)
    with contextlib.suppress(OSError):  # some network file systems cannot, and the name is given already
        sync(target.parent)


def sync(path: Path, target: Path | None = None) -> None:
    """Wait until a file or folder is on the disk; with the mode and owner of `target` if that exists."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        _sync(descriptor, target)
    finally:
        os.close(descriptor)


def is_stream(path: Path) -> bool:
    """Whether `path` is a device, a FIFO, a socket or an open descriptor, or a link to one."""
    if _descriptor(path) is not None:
        return True
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def replaceable(path: Path) -> Path:
    """The file that a write to `path` replaces: what a link names, which need not exist.

    Raises:
        OSError: if it is a folder, or a file that may not be written.
    """
    try:
        is_file = stat.S_ISREG(path.stat().st_mode)  # follows links, and refuses a loop of them
    except FileNotFoundError:
        return Path(os.path.realpath(path))
    if not is_file:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    os.close(os.open(path, os.O_WRONLY))  # a folder's permissions alone would let a protected file be replaced
    return Path(os.path.realpath(path))


def check_destination(path: Path) -> None:
    """Find out whether `atomic_write` could write to `path`; a FIFO is not opened, which would wait for its reader.

    Raises:
        OSError: if not.
    """
    if (descriptor := _descriptor(path)) is not None:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF), str(path))
    elif is_stream(path):
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    else:
        check_folder(replaceable(path).parent)


def check_folder(folder: Path) -> None:
    """Make a folder where there is none, and find out whether a file could be written there.

    Raises:
        OSError: if not.
    """
    make_folder(folder)
    with TemporaryFile(dir=folder) as file:  # without a name, where the file system can do that
        file.write(bytes(4096))


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, where there is none.

    Raises:
        OSError: if it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)) from None


def _descriptor(path: Path) -> int | None:
    """N for /dev/fd/N and for links to it such as /dev/stdout."""
    descriptors = os.path.realpath("/dev/fd")
    for _ in range(40):  # the most links that Linux follows
        folder = os.path.realpath(path.parent)
        if folder == descriptors and path.name.isdecimal():
            return int(path.name)
        path = Path(folder, path.name)
        if not path.is_symlink():
            return None
        path = Path(folder, path.readlink())
    return None


def _open_stream(path: Path) -> IO[bytes]:
    descriptor = _descriptor(path)
    if descriptor is None:
        return open(path, "wb", opener=lambda name, _: os.open(name, os.O_WRONLY))  # where it is gone, makes no file
    sys.stdout.flush()
    return os.fdopen(os.dup(descriptor), "wb")  # another open() would begin a redirected file from its start


def _sync(descriptor: int, target: Path | None) -> None:
    if target is not None and target.exists():
        old = target.stat()
        with contextlib.suppress(OSError):  # only root gives files away
            os.fchown(descriptor, old.st_uid, old.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(old.st_mode))
    os.fsync(descriptor)


def _prefix() -> str:
    return f".lm.{socket.gethostname()}."


def _remove_abandoned(folder: Path) -> None:
    """Remove the temporaries of processes of this host that have ended."""
    temporary_name = re.compile(re.escape(_prefix()) + r"(\d+)\.[0-9a-f]+\.tmp")
    for path in folder.iterdir():
        if (found := temporary_name.fullmatch(path.name)) and path.name not in _live:
            process = int(found[1])
            if process == os.getpid() or not psutil.pid_exists(process):
                with contextlib.suppress(OSError):
                    _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
