"""Text and JSON in files, and one line where the system refuses to write or read."""

import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lm.errors import UserError
from lm.files.atomic import atomic_write, check_destination
from lm.files.text import open_text


@contextmanager
def refusals(action: str) -> Iterator[None]:
    """Tell in one line what the system refuses: `action` is "write PATH" or "read KEY=PATH".

    Raises:
        UserError: if it refuses.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        if reason := system_reason(error):
            raise UserError(f"Cannot {action}: {reason}.") from error
        raise


def system_reason(error: BaseException) -> str | None:
    """What the system said where it is the cause of `error`, such as "No space left on device"; else None.

    torch's zip writer, for one, hides an OSError behind a RuntimeError about positions.
    """
    first: BaseException | None = error
    while first is not None and not isinstance(first, OSError):
        first = first.__cause__ or first.__context__
    return None if first is None else (first.strerror or str(first) or type(first).__name__).rstrip(".")


def warn(message: str) -> None:
    """Print a line to stderr, from the first process of a run only."""
    from lightning.pytorch.utilities.rank_zero import rank_zero_only

    rank_zero_only(print)(f"Warning: {message}", file=sys.stderr, flush=True)


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
    with refusals(f"write {path}"):
        check_destination(path)


def write_text(text: str, path: str | Path) -> Path:
    """Write a text file, atomically where that can be, and return its path.

    Raises:
        UserError: if it cannot be written.
    """
    path = Path(path).expanduser()
    with refusals(f"write {path}"), atomic_write(path) as file:
        file.write(text.encode("utf-8"))
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
