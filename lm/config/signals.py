"""Ctrl-C, SIGTERM and SIGHUP end a script with its results so far, one line, and the shell's exit code."""

import contextlib
import os
import signal
import sys
import time
from types import FrameType, TracebackType
from typing import NoReturn, Self

from lm.config.launch import is_first_process

NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}
SAME_PRESS = 1.0  # seconds in which a second signal is part of the first: `timeout`, for one, sends two

_received: int | None = None
_interrupted_at = float("-inf")
_has_said = False


def handle_signals() -> None:
    """Let SIGTERM and SIGHUP raise KeyboardInterrupt as Ctrl-C does, and exit with one line if uncaught."""
    for signum in NAMES:
        if signum != signal.SIGHUP or signal.getsignal(signum) != signal.SIG_IGN:  # nohup ignores it
            signal.signal(signum, _interrupt)
    signal.signal(signal.SIGALRM, _interrupt)  # a second try
    sys.excepthook = _excepthook


class Interruptible:
    """A block of work that a KeyboardInterrupt ends early; `raise_again` ends the script after the output."""

    is_interrupted = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        self.is_interrupted = kind is not None and issubclass(kind, KeyboardInterrupt)
        return self.is_interrupted

    def raise_again(self, message: str) -> None:
        """Raise the KeyboardInterrupt, if there was one, with a message that says what the results are."""
        if self.is_interrupted:
            raise KeyboardInterrupt(message)


def quit_now(signum: int) -> NoReturn:
    """Raise KeyboardInterrupt, and again after five seconds, in case the first leaves a lock that shutdown needs."""
    note(signum)
    if _handles_signals():
        signal.setitimer(signal.ITIMER_REAL, 5)
    raise KeyboardInterrupt


def restore() -> None:
    """Handle SIGTERM again after another handler was set; nothing where `handle_signals` was not called."""
    if _handles_signals():
        signal.signal(signal.SIGTERM, _interrupt)


def received() -> int | None:
    """The first signal that asked this script to stop, if any has."""
    return _received


def note(signum: int) -> None:
    """Remember that a signal asked this script to stop, for a handler that is not ours."""
    global _received
    if _handles_signals() and signum in NAMES and _received is None:
        _received = signum


def _handles_signals() -> bool:
    return sys.excepthook is _excepthook


def end(error: BaseException | None = None) -> NoReturn:
    """End the script with exit code 128 + signal and one line on stderr, with the message of a KeyboardInterrupt."""
    code = 128 + (_received or signal.SIGINT)
    if isinstance(error, SystemExit) and isinstance(error.code, int) and error.code > 128:
        code = error.code  # with its own message
    else:
        signal.setitimer(signal.ITIMER_REAL, 0)
        _say(str(error) if isinstance(error, KeyboardInterrupt) else "")
    sys.exit(code)


def _say(message: str = "") -> None:
    global _has_said
    if is_first_process() and not _has_said:
        name = NAMES[signal.Signals(_received or signal.SIGINT)]
        with contextlib.suppress(OSError):  # after SIGHUP the terminal may be gone
            print(f"Stopped by {name}: {message}" if message else f"Stopped by {name}.", file=sys.stderr, flush=True)
    _has_said = True


def _interrupt(signum: int, frame: FrameType | None) -> None:
    global _interrupted_at
    if signum != signal.SIGALRM:
        note(signum)
        since, _interrupted_at = time.monotonic() - _interrupted_at, time.monotonic()
        if since < SAME_PRESS:
            return
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    if any(each.f_code.co_filename.startswith("<frozen importlib") for each in frames):
        signal.setitimer(signal.ITIMER_REAL, 0.05)  # an import may turn the exception into another, or lose it
    elif any(each.f_code.co_name == "<module>" and each.f_globals["__name__"] == "__main__" for each in frames):
        raise KeyboardInterrupt
    else:  # the interpreter is shutting down
        _say()
        os._exit(128 + (_received or signal.SIGINT))


def _excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if _received is not None or issubclass(kind, KeyboardInterrupt):
        end(error)
    sys.__excepthook__(kind, error, trace)
