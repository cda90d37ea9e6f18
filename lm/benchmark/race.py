"""A benchmark whose sides take turns, each in its own process, so that noise on the machine affects all alike."""

import multiprocessing
import signal
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pkgutil import resolve_name
from typing import Any

from torch.utils.benchmark import Timer

from lm.benchmark.device import device_of, peak_megabytes, synchronize
from lm.config.cli import user_error_message
from lm.errors import UserError

MEMORY = "memory"  # the message that asks a side for its peak


@dataclass
class Side:
    """One side of a race: its work and its measurements.

    Attributes:
        name: for people.
        function: of `lm.benchmark.plain`, `ours`, `losses` or `limits`, by its dotted name.
        config: the function's argument, in primitive types.
        per_step: how many words, texts or windows a step gets done.
        seconds: for one of them, in each round.
        megabytes: of memory at the peak, beyond those before the first step.
        answers: the loss in nats of each training step, or what `learn` answers.
    """

    name: str
    function: str
    config: dict[str, Any]
    per_step: int = 1
    seconds: list[float] = field(default_factory=list)
    megabytes: float = 0.0
    answers: list[Any] = field(default_factory=list)


def race(sides: Sequence[Side], rounds: int, steps: int) -> None:
    """Run the sides in turns of `steps` steps each; the first round is a warm-up and is not measured."""
    with started(sides) as lines:
        for number in range(rounds + 1):
            for side, line in zip(sides, lines, strict=True):
                timer = Timer("step(side, line)", globals={"step": step, "side": side, "line": line})
                seconds = timer.timeit(steps).median / side.per_step
                side.seconds += [seconds] if number else []


@contextmanager
def started(sides: Sequence[Side]) -> Iterator[list[Connection]]:
    """Run each side's process in a block, and yield a line to each; afterwards the sides know their memory."""
    context = multiprocessing.get_context("spawn")
    processes, lines = [], []
    try:
        for side in sides:
            line, theirs = context.Pipe()
            processes.append(context.Process(target=_work, args=(theirs, side)))
            with _ctrl_c_ignored():
                processes[-1].start()
            lines.append(line)
            theirs.close()
            _receive(line)  # one side at a time builds its model
        yield lines
        for side, line in zip(sides, lines, strict=True):
            line.send(MEMORY)
            side.megabytes = _receive(line)
    finally:
        for process in processes:
            process.kill()  # Lightning ignores SIGTERM until a step ends
            process.join()


@contextmanager
def _ctrl_c_ignored() -> Iterator[None]:
    """Let processes started in a block ignore Ctrl-C from their first instruction: it reaches all of a terminal's."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def step(side: Side, line: Connection) -> None:
    """Let a side do one step."""
    with suppress(BrokenPipeError):  # a side that has died: receiving says so
        line.send(None)
    answer = _receive(line)
    side.answers += [] if answer is None else [answer]


def _work(line: Connection, side: Side) -> None:
    """The process of a side: it answers each message with the step's result, its memory, or an error."""
    before: float | None = None

    def next_turn(answer: Any = None) -> None:
        nonlocal before
        device = device_of(side.config)
        synchronize(device)
        if before is None:
            before = peak_megabytes(device, reset=True)
        line.send(answer)
        while line.recv() == MEMORY:
            line.send(peak_megabytes(device) - before)

    try:
        resolve_name(side.function)(side.config, next_turn)
        line.send(RuntimeError(f"{side.name} ended by itself"))
    except Exception as error:
        message = user_error_message(error)
        line.send(UserError(message) if message else RuntimeError(f"{side.name} failed:\n{traceback.format_exc()}"))


def _receive(line: Connection) -> Any:
    try:
        answer = line.recv()
    except (EOFError, ConnectionError):
        raise UserError("A side was ended by the system: is there enough memory?") from None
    if isinstance(answer, Exception):
        raise answer
    return answer
