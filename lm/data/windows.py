"""Truncated back-propagation through time, the data side: columns of text, and windows that walk down them."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lm.errors import UserError
from lm.ops import IGNORE_INDEX


class Window(NamedTuple):
    """Some steps of every column: inputs `[T, B]`, and targets `[T, B]`, the words that come one later."""

    inputs: Tensor
    targets: Tensor


def training_columns(stream: Tensor, batch_size: int) -> Window:
    """Cut a stream `[N]` into `batch_size` columns of equal length, one window as tall as they are.

    What does not fill a row is left out, as is customary: fewer than `batch_size` words. Views, not copies.
    The same cut gives the evaluation protocol of pytorch/examples, which also never scores a column's first word.
    """
    rows = len(stream) // batch_size
    columns = stream[: rows * batch_size].view(batch_size, rows).t()
    return Window(columns[:-1], columns[1:])


def trimmed_columns(stream: Tensor, batch_size: int, key: str) -> Window:
    """The same, for a number of columns that a config names under `key`.

    Raises:
        UserError: if the text is too short for them.
    """
    if len(stream) < 2 * batch_size:
        raise UserError(
            f"{key}={batch_size} given, but {len(stream)} words of text allow at most {len(stream) // 2}: "
            "every column needs a word and the one after it."
        )
    return training_columns(stream, batch_size)


def evaluation_columns(stream: Tensor, batch_size: int, eos_id: int) -> Window:
    """Cut a stream `[N]` into `batch_size` columns, or N if these are fewer, in which each word is a target once.

    The first word's context is `<eos>`, that of a later column's first word is the word before it.
    The last column is padded with targets IGNORE_INDEX.
    """
    batch_size = min(batch_size, max(1, len(stream)))  # more would hold nothing but padding
    rows = -(-len(stream) // batch_size)
    padding = rows * batch_size - len(stream)
    inputs = torch.cat([stream.new_tensor([eos_id]), stream[:-1], stream.new_full((padding,), eos_id)])
    targets = torch.cat([stream, stream.new_full((padding,), IGNORE_INDEX)])
    return Window(inputs.view(batch_size, rows).t(), targets.view(batch_size, rows).t())


def split_length(length: int, bptt: int) -> list[int]:
    """Cut `length` steps into windows of `bptt`, the last one shorter."""
    return [min(bptt, length - start) for start in range(0, length, bptt)]


def jittered_lengths(length: int, bptt: int, generator: torch.Generator) -> list[int]:
    """Cut `length` steps into windows of random length around `bptt`, the last one shorter.

    N(bptt, 5) for 95 % of them and N(bptt / 2, 5) for the rest, at least 5 (Merity et al. 2017, section 5).
    """
    lengths: list[int] = []
    while length > 0:
        mean = bptt if torch.rand((), generator=generator) < 0.95 else bptt / 2
        drawn = int(mean + 5 * torch.randn((), generator=generator))
        lengths.append(min(length, max(5, drawn)))
        length -= lengths[-1]
    return lengths


class Windows:
    """The windows of one epoch after another, resumable at any window.

    A plain iterable: Lightning would put a sampler into a map-style dataset and shuffle the columns apart.
    With `jitter` the lengths are drawn once and shuffled anew for every epoch, so that window boundaries move
    while the number of windows, which Lightning asks for only once, stays.

    Args:
        columns: inputs and targets `[L, B]`.
        bptt: steps in a window.
        jitter: whether to vary the lengths (see `jittered_lengths`).
        seed: of the lengths and their order.
    """

    def __init__(self, columns: Window, bptt: int, jitter: bool = False, seed: int = 0) -> None:
        self.columns = columns
        self.bptt = bptt
        self.jitter = jitter
        self.seed = seed
        steps = len(columns.inputs)
        self.lengths = jittered_lengths(steps, bptt, self._generator(0)) if jitter else split_length(steps, bptt)
        self.epoch = -1
        self.position = 0  # windows of this epoch that are done
        self.resuming = False

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[Window]:
        if not self.resuming:
            self.epoch += 1
            self.position = 0
        self.resuming = False
        lengths = self._lengths_of_epoch()
        start = sum(lengths[: self.position])
        for length in lengths[self.position :]:
            yield Window(*(ids[start : start + length].long() for ids in self.columns))
            # only now: a checkpoint that is written before a step begins with the window of that step
            self.position += 1
            start += length

    def state_dict(self) -> dict[str, Any]:
        """Where the iteration stands."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next iteration go on where `state` stood."""
        self.epoch, self.position, self.resuming = state["epoch"], state["position"], True

    def _lengths_of_epoch(self) -> list[int]:
        if not self.jitter:
            return self.lengths
        order = torch.randperm(len(self.lengths), generator=self._generator(self.epoch + 1))
        return [self.lengths[i] for i in order.tolist()]

    def _generator(self, epoch: int) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
