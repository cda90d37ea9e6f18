"""Range checks for values that a user sets; each failure is one line that names the value and its range."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from lm.errors import UserError


def at_least(minimum: float, **values: float | None) -> None:
    """Check every value against `minimum`; None means unset and passes."""
    _check(values, lambda value: value is None or value >= minimum, f"at least {minimum}")


def above_zero(**values: float) -> None:
    """Check that every value is above zero."""
    _check(values, lambda value: value > 0, "above 0")


def probability(**values: float) -> None:
    """Check that every value is a probability below one, as a dropout must be."""
    _check(values, lambda value: 0 <= value < 1, "at least 0 and below 1")


def one_of(allowed: Collection[str], **values: str) -> None:
    """Check that every value is among the `allowed` ones."""
    _check(values, lambda value: value in allowed, f"one of {', '.join(allowed)}")


def candidates_for(names: Collection[str], candidates: Mapping[str, Sequence[float]]) -> None:
    """Check that the keys of the candidates are among `names`, and that each has candidates."""
    for name, values in candidates.items():
        one_of(names, candidates=name)
        if not values:
            raise UserError(f"candidates.{name}={list(values)} given, but there must be one or more to choose from.")


def _check(values: Mapping[str, Any], is_allowed: Callable[[Any], bool], allowed: str) -> None:
    for name, value in values.items():
        if not is_allowed(value):
            raise UserError(f"{name}={value} given, but it must be {allowed}.")
