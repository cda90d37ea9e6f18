"""What takes part in a race."""

import resource
import sys
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue

import psutil


class Contender:
    """Work that is done a step at a time, by the main thread of a process, when another thread asks for it.

    The work has the main thread to itself because that is where a user's runs: memory, for one, comes to other
    threads from elsewhere.

    Attributes:
        losses: in nats, of each training step so far.
        resting_bytes: of memory that the process held before its first step.
    """

    losses: list[float]
    resting_bytes: int

    def __init__(self) -> None:
        self.losses = []
        self.resting_bytes = 0
        self._asked: SimpleQueue[None] = SimpleQueue()
        self._done: SimpleQueue[None] = SimpleQueue()

    def begin(self) -> None:
        """Make ready for a round of steps; not timed."""

    def work(self) -> None:
        """Do one step."""
        raise NotImplementedError

    def run(self) -> None:
        """In the main thread: work for ever, whenever asked."""
        while True:
            self.wait()
            self.work()
            self.tell()

    def step(self) -> None:
        """In another thread: ask for a step and wait for its end."""
        self._asked.put(None)
        self._done.get()

    def wait(self) -> None:
        """Wait until a step is asked for."""
        if not self.resting_bytes:
            self.resting_bytes = psutil.Process().memory_info().rss
            forget_peak()
        self._asked.get()

    def tell(self) -> None:
        """Say that the step is done."""
        self._done.put(None)


def forget_peak() -> None:
    """Let Linux measure the peak of this process's memory from now on: its start and the parent's count, too."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def peak_bytes() -> int:
    """The most memory that this process has held, where Linux is asked since `forget_peak`."""
    try:
        [line] = [
            line
            for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
            if line.startswith("VmHWM")
        ]
        return 1024 * int(line.split()[1])
    except (OSError, ValueError):
        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
