"""Streams: devices, FIFOs, sockets and open descriptors, such as /dev/null, /dev/stdout and a shell's >(command)."""

import fcntl
import os
import sys
from pathlib import Path
from typing import IO


def is_stream(path: Path) -> bool:
    """Whether `path` is a stream or a link to one."""
    try:
        return _descriptor(path) is not None or (path.exists() and not path.is_file() and not path.is_dir())
    except (OSError, RuntimeError):  # the latter for a loop of links, until Python 3.13
        return False


def open_stream(path: Path) -> IO[bytes]:
    """Open a stream for writing."""
    descriptor = _descriptor(path)
    if descriptor is None:
        return open(path, "wb", opener=lambda name, _: os.open(name, os.O_WRONLY))  # creates no file
    sys.stdout.flush()
    return os.fdopen(os.dup(descriptor), "wb")  # another open() would overwrite a redirected file from its start


def is_writable(path: Path) -> bool:
    """Whether a stream can be written; it is not opened, because a FIFO would wait for its reader."""
    if (descriptor := _descriptor(path)) is not None:
        return fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
    return os.access(path, os.W_OK)


def _descriptor(path: Path) -> int | None:
    """N for /dev/fd/N and for links to it such as /dev/stdout."""
    descriptors = Path("/dev/fd").resolve()
    for _ in range(40):  # the most links that Linux follows
        path = path.parent.resolve() / path.name
        if path.parent == descriptors and path.name.isdecimal():
            return int(path.name)
        if not path.is_symlink():
            return None
        path = path.parent / path.readlink()
    return None
