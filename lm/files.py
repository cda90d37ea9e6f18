"""Files that are either whole or not there."""

import json
import math
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from lm.errors import UserError
from lm.text import open_text


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Yield a path to write to; when the block ends well, what was written takes the name `path` at once.

    A kill or an error in between leaves whatever stood at `path` untouched, and of two processes that write
    the same file the last to finish wins with a whole file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{secrets.token_hex(8)}.{path.name}")
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def refusals(action: str) -> Iterator[None]:
    """Tell in one line what the system refuses: `action` is "write PATH" or "read KEY=PATH".

    Raises:
        UserError: if it refuses.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"Cannot {action}: {error.strerror}.") from error


@contextmanager
def folder_written_aside(path: Path) -> Iterator[Path]:
    """Yield a folder to write into; when the block ends well, it takes the name `path` at once.

    Raises:
        UserError: if something stands at `path` already.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UserError(f"out={path} given, but something stands there: give another folder, or delete this one.")
    aside = path.with_name(f".{secrets.token_hex(8)}.{path.name}")
    aside.mkdir(parents=True)
    try:
        yield aside
        aside.rename(path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def beside(path: str | Path, ending: str) -> Path:
    """The place for a result beside a checkpoint: `best.ckpt` and `.json` give `best.json`; a folder keeps its name."""
    path = Path(os.path.normpath(Path(path).expanduser().absolute()))
    return path.with_name((path.name if path.is_dir() else path.stem) + ending)


def check_writable(path: str | Path) -> None:
    """Find out before long work whether a file could be written.

    Raises:
        UserError: if not.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise UserError(f"Cannot write {path}: it is a folder.")
    with refusals(f"write {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=path.parent).close()


def write_text(text: str, path: str | Path) -> Path:
    """Write a text file, whole or not at all, and return its path.

    Raises:
        UserError: if it cannot be written.
    """
    path = Path(path).expanduser()
    with refusals(f"write {path}"), written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")
    return path


def read_text(path: str | Path, key: str) -> str:
    """Read a text file that a config names under `key`.

    Raises:
        UserError: if it cannot be read, or is not UTF-8.
    """
    name = f"{key}={path}"
    with refusals(f"read {name}"), open_text(Path(path).expanduser(), name) as lines:
        return "".join(lines)


def json_text(values: Any, **options: Any) -> str:
    """JSON, with null for the numbers that it cannot write."""
    return json.dumps(_finite(values), allow_nan=False, ensure_ascii=False, **options)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
