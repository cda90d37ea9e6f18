"""System errors and warnings in one line."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from lm.errors import UserError


@contextmanager
def explain_os_errors(action: str) -> Iterator[None]:
    """Turn a system error into a UserError, "Cannot {action}: No space left on device.", for example."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if reason := os_error_reason(error):
            raise UserError(f"Cannot {action}: {reason}.") from error
        raise


def os_error_reason(error: BaseException | None) -> str | None:
    """The system's message if it caused `error`, else None; torch hides an OSError behind a RuntimeError, for one."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return None if error is None else (error.strerror or str(error) or type(error).__name__).rstrip(".")


def warn(message: str) -> None:
    """Print a line to stderr, on rank 0 only."""
    from lightning.pytorch.utilities.rank_zero import rank_zero_only

    rank_zero_only(print)(f"Warning: {message}", file=sys.stderr, flush=True)
