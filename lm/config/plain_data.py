"""Plain data: Hydra's own keys, what a config in a checkpoint may contain, and how untrusted values are displayed."""

import sys
from collections.abc import Iterator

from lm.errors import UserError
from lm.files.text import CONTROL_CHARACTER

INSTANTIATE_KEYS = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")  # of hydra.utils.instantiate
MAX_DEPTH = 20  # of nested mappings and lists
MAX_LENGTH = 1000  # of a list
MAX_TEXT = 4096  # characters, as in a path
MAX_VALUES = 100_000  # in total: aliases let a file of some kilobytes contain one list thousands of times


def check_plain(
    value: object, path: str, depth: int = 0, budget: Iterator[int] | None = None, interpolated: bool = False
) -> None:
    """Check that a stored value is a number, string, None, or a list or mapping of these.

    Text may hold interpolations only if `interpolated`: for a reader that does not resolve them.
    """
    budget = iter(range(MAX_VALUES)) if budget is None else budget
    if next(budget, None) is None:
        raise UserError(f"{cut(path)} stands after more than {MAX_VALUES} values")
    if depth > MAX_DEPTH:
        raise UserError(f"{cut(path)} is nested more than {MAX_DEPTH} deep")
    if type(value) is dict:
        for key, each in value.items():
            if type(key) is not str or not key.isprintable() or "${" in key or len(key) > MAX_TEXT:
                raise UserError(f"{path} has a key {shown(key)}, but it must be a name")
            check_plain(each, f"{path}.{key}", depth + 1, budget, interpolated)
    elif type(value) is list:
        if len(value) > MAX_LENGTH:
            raise UserError(f"{path} has {len(value)} entries, but at most {MAX_LENGTH} are read")
        for each in value:
            check_plain(each, path, depth + 1, budget, interpolated)
    elif type(value) is str:
        if len(value) > MAX_TEXT:
            raise UserError(f"{path} has {len(value)} characters, but it can have at most {MAX_TEXT}")
        is_open = "${" in value or value == "???"
        if (is_open and not interpolated) or CONTROL_CHARACTER.search(value):
            raise UserError(
                f"{path} is {shown(value)}, but it must be plain text, without control characters: no interpolation is "
                "resolved"
            )
    elif isinstance(value, int | float) and type(value) in (int, float):
        if not abs(value) <= sys.float_info.max:
            raise UserError(f"{path} is {shown(value)}, but it must be a finite number")
    elif type(value) not in (bool, type(None)):
        raise UserError(f"{path} is {shown(value)}, but it must be plain data")


def shown(value: object) -> str:
    """An untrusted value for a message: short, on one line, without control characters."""
    return cut(ascii(value if isinstance(value, str | int | float | None) else type(value).__name__))


def cut(text: str) -> str:
    """The text, or its beginning if it is too long for a message."""
    return text if len(text) <= 60 else f"{text[:57]}..."
