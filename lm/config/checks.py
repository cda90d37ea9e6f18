"""Range checks for values that a user sets; each failure is one line that names the value and its range."""

from collections.abc import Collection, Mapping, Sequence

from lm.errors import UserError


def at_least(minimum: float, **values: float | None) -> None:
    """Check every given value against `minimum`; None means unset and passes.

    Raises:
        UserError: if a value is below `minimum`.
    """
    for name, value in values.items():
        if value is not None and not value >= minimum:
            raise UserError(f"{name}={value} given, but it must be at least {minimum}.")


def above_zero(**values: float) -> None:
    """Check that every given value is above zero.

    Raises:
        UserError: if one is not.
    """
    for name, value in values.items():
        if not value > 0:
            raise UserError(f"{name}={value} given, but it must be above 0.")


def probability(**values: float) -> None:
    """Check that every given value is a probability below one, as a dropout must be.

    Raises:
        UserError: if one is not in [0, 1).
    """
    for name, value in values.items():
        if not 0 <= value < 1:
            raise UserError(f"{name}={value} given, but it must be at least 0 and below 1.")


def one_of(allowed: Collection[str], **values: str) -> None:
    """Check that every given value is among the `allowed` ones.

    Raises:
        UserError: if one is not.
    """
    for name, value in values.items():
        if value not in allowed:
            raise UserError(f"{name}={value} given, but it must be one of {', '.join(allowed)}.")


def candidates_for(names: Collection[str], candidates: Mapping[str, Sequence[float]]) -> None:
    """Check that the values to choose from are those of `names`, and that there are some.

    Raises:
        UserError: if not.
    """
    for name, values in candidates.items():
        one_of(names, candidates=name)
        if not values:
            raise UserError(f"candidates.{name}={list(values)} given, but there must be one or more to choose from.")
