"""Callbacks that only log or display: an error in one never ends the run."""

import functools
import sys
from collections.abc import Callable
from typing import Any

from lightning import Callback


class FailSafe(Callback):
    """Turns an exception in any hook of a subclass, inherited ones too, into one line on stderr, once."""

    has_failed = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name in filter(lambda name: name.startswith("on_"), dir(cls)):
            hook = getattr(cls, name)
            if hook is not getattr(Callback, name, None):
                setattr(cls, name, _without_exceptions(hook))


def _without_exceptions(hook: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(hook)
    def wrapper(self: FailSafe, *args: Any, **options: Any) -> Any:
        try:
            return hook(self, *args, **options)
        except Exception as error:
            if not self.has_failed:
                self.has_failed = True
                reason = " ".join(f"{type(error).__name__}: {error}".split())
                print(f"{type(self).__name__} has failed, training goes on ({reason}).", file=sys.stderr, flush=True)

    return wrapper
