"""Invalid user input ends a script in one line, without a traceback."""

import contextlib
import errno
import functools
import os
import re
import select
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException, InstantiationException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

import lm.config.resolvers  # noqa: F401  (conf/ calls them)
from lm.config import signals
from lm.config.launch import in_multirun, is_first_process
from lm.config.plain_data import cut
from lm.config.ranges import check_ranges
from lm.errors import UserError
from lm.files.text import write_text

ERROR_FILE = "error.txt"  # in the folder of a run that failed or was stopped
STOPPED = "stopped"  # its content if the run was stopped


def one_line_errors(main: Callable[[DictConfig], Any]) -> Callable[[DictConfig], Any]:
    """Turn invalid input and signals into one line on stderr and an exit code; bugs keep their traceback."""

    @functools.wraps(main)
    def wrapper(config: DictConfig) -> Any:
        try:
            if HydraConfig.initialized():  # hydra.job.chdir must not change what relative paths mean
                os.chdir(HydraConfig.get().runtime.cwd)
            check_ranges(config)
            result = main(config)
            sys.stdout.flush()  # detect a closed pipe here, not at interpreter exit
            if signals.received():
                raise KeyboardInterrupt
            return result
        except BaseException as error:
            if isinstance(error, BrokenPipeError) and _reader_has_exited():  # as `head` does
                _discard_output()
                if signals.received():
                    signals.end()
                sys.exit(1)
            if signals.received() or isinstance(error, KeyboardInterrupt):  # Lightning makes a SystemExit of it
                _leave_in_job(STOPPED)
                signals.end(error)
            if not isinstance(error, Exception):
                raise
            message = user_error_message(error)
            if isinstance(error, OSError) and message:
                _discard_output()
            if in_multirun():
                _leave_in_job(message or repr(error))
            elif message and HydraConfig.initialized():
                sys.exit(message)
            if message is None:
                raise
            # in a multirun the other jobs continue
            raise CompactHydraException(message) from None

    return wrapper


def _reader_has_exited() -> bool:
    """Whether nobody reads our output any more; other pipes break, too."""
    poll = select.poll()
    for stream in (sys.stdout, sys.stderr):
        poll.register(stream.fileno(), 0)
    return bool(poll.poll(0))


def _discard_output() -> None:
    """Discard unflushed output, which would fail at interpreter exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def reason_left_in(folder: str | Path) -> Iterator[None]:
    """Record in a run's folder why the block has left no or incomplete results; an earlier reason is removed."""
    if not is_first_process():
        yield
        return
    Path(folder, ERROR_FILE).unlink(missing_ok=True)
    try:
        yield
    except BaseException as error:
        exited = isinstance(error, SystemExit) and isinstance(error.code, int)  # as Lightning does after a signal
        stopped = signals.received() or exited or isinstance(error, KeyboardInterrupt)
        leave(STOPPED if stopped else user_error_message(error) or repr(error), folder)
        raise
    if signals.received():
        leave(STOPPED, folder)


def _leave_in_job(message: str) -> None:
    """Record for the sweep's table why this job has no or incomplete results."""
    if in_multirun():
        leave(message, HydraConfig.get().runtime.output_dir)


def leave(message: str, folder: str | Path) -> None:
    """Record in a run's folder why it has no or incomplete results."""
    with contextlib.suppress(UserError):  # report the first error, not the failure to write it
        write_text(message, Path(folder, ERROR_FILE))


def user_error_message(error: BaseException) -> str | None:
    """The message for the user if `error` is due to invalid input; None if it is a bug."""
    cause: BaseException | None = error
    while cause is not None:
        is_lightnings = type(cause).__name__ == "MisconfigurationException"  # by name: `--help` imports no Lightning
        if is_lightnings or isinstance(cause, UserError | OmegaConfBaseException):
            return _one_line(str(cause).split("\n    full_key:")[0])
        if type(cause).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(cause):  # torch's, GPU and CPU
            return f"Out of memory ({_one_line(str(cause))[:200]}): use smaller batches, windows or models."
        if isinstance(cause, UnicodeEncodeError) and "surrogates" in cause.reason:
            around = cause.object[max(cause.start - 80, 0) : cause.end + 80]
            return f"The name of a file or folder is not UTF-8: rename it. It stands in {around!a}."
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO):
            return f"Cannot write {cause.filename or 'the output'}: {cause.strerror}."
        if isinstance(cause, OSError) and cause.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            return f"{cut(str(cause.filename))} given, but it is no path: {cause.strerror}."
        cause = cause.__cause__
    if isinstance(error, InstantiationException) and isinstance(error.__cause__, TypeError | ValueError):
        return _one_line(f"{error.__cause__} ({str(error).rpartition('full_key: ')[2]})")
    return None


def _one_line(message: str) -> str:
    """The message on one line; paths in it keep their spaces."""
    return re.sub(r"\s*\n\s*", " ", message).strip()
