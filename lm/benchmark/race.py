"""Sides that take turns, each in a process of its own, so that a noisy machine hurts all of them alike."""

import importlib
import multiprocessing
import threading
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from lm.benchmark.contender import Contender, peak_bytes
from lm.config.cli import users_mistake
from lm.errors import UserError


@dataclass(frozen=True)
class Side:
    """Who runs.

    Attributes:
        name: for people.
        contender: the dotted name of a class of `lm.benchmark.plain` or `lm.benchmark.ours`.
        config: what it is made from, in primitive types.
        per_step: how many of what the race compares it gets done in a step.
    """

    name: str
    contender: str
    config: dict[str, Any]
    per_step: int = 1


@dataclass
class Result:
    """What a side reached.

    Attributes:
        seconds: for one of what the race compares, of each round.
        megabytes: of memory that the steps took at their peak, beyond what was there before the first.
        losses: in nats, of each training step.
    """

    seconds: list[float] = field(default_factory=list)
    megabytes: float = 0.0
    losses: list[float] = field(default_factory=list)


def race(sides: Sequence[Side], rounds: int, steps: int) -> dict[str, Result]:
    """Let the sides take turns of so many steps each; the first round warms up and does not count.

    Raises:
        UserError: if what a side is asked for cannot be done.
        RuntimeError: if a side fails otherwise, with its traceback.
    """
    context = multiprocessing.get_context("spawn")
    lines, processes = {}, []
    try:
        for side in sides:
            lines[side.name], theirs = context.Pipe()
            processes.append(context.Process(target=_serve, args=(theirs, side)))
            processes[-1].start()
            theirs.close()
            _receive(lines[side.name])  # one side at a time builds its model
        results = {side.name: Result() for side in sides}
        for number in range(rounds + 1):
            for name, line in lines.items():
                seconds = _ask(line, steps)
                if number:
                    results[name].seconds.append(seconds)
        for name, line in lines.items():
            results[name].megabytes, results[name].losses = _ask(line, None)
        return results
    finally:
        for process in processes:
            process.kill()  # Lightning's loops do not end when asked to
            process.join()


def _ask(line: Connection, steps: int | None) -> Any:
    line.send(steps)
    return _receive(line)


def _receive(line: Connection) -> Any:
    try:
        answer = line.recv()
    except EOFError:
        raise RuntimeError("A side has died without a word: is there enough memory?") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _serve(line: Connection, side: Side) -> None:
    """The process of one side: make it, and let it work in the main thread while another one asks and times."""
    try:
        module, _, name = side.contender.rpartition(".")
        contender: Contender = getattr(importlib.import_module(module), name)(side.config)
        threading.Thread(target=_answer, args=(line, side, contender), daemon=True).start()
        contender.run()
    except Exception as error:
        message = users_mistake(error)
        line.send(UserError(message) if message else RuntimeError(f"{side.name} failed:\n{traceback.format_exc()}"))


def _answer(line: Connection, side: Side, contender: Contender) -> None:
    """Time as many steps as asked for, until there is no more to do."""
    try:
        _time(line, side, contender)
    except Exception:
        line.send(RuntimeError(f"{side.name} failed:\n{traceback.format_exc()}"))


def _time(line: Connection, side: Side, contender: Contender) -> None:
    import torch
    from torch.utils.benchmark import Timer

    timer = Timer("step()", globals={"step": contender.step}, num_threads=torch.get_num_threads())
    line.send(True)
    while (steps := line.recv()) is not None:
        contender.begin()
        line.send(timer.timeit(steps).median / side.per_step)
    line.send(((peak_bytes() - contender.resting_bytes) / 1e6, contender.losses))
