"""Data for truncated back-propagation through time: parallel streams of text, cut into windows."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lm.errors import UserError
from lm.ops import IGNORE_INDEX


class Window(NamedTuple):
    """T steps of all streams: inputs `[T, B]`, and targets `[T, B]`, the inputs shifted by one step."""

    inputs: Tensor
    targets: Tensor


def batchify(text: Tensor, batch_size: int, name: str = "batch_size") -> Window:
    """Cut a text `[N]` into `batch_size` streams of equal length, returned as one window.

    The last N mod B tokens are dropped, and the first token of each stream is not a target. Returns views. `name` is
    the batch size's name in error messages.
    """
    length = len(text) // batch_size
    if length < 2:
        raise UserError(
            f"{name}={batch_size} given, but {len(text)} tokens of text allow at most {len(text) // 2}: every stream "
            "needs a token and the one after it."
        )
    streams = text[: length * batch_size].view(batch_size, length).t()
    return Window(streams[:-1], streams[1:])


def batchify_padded(text: Tensor, batch_size: int, eos_id: int) -> Window:
    """Cut a text `[N]` into `batch_size` streams (at most N), in which each token is a target exactly once.

    The first token is predicted from `<eos>`, every other one from the token before it in the text. The last streams
    are padded with IGNORE_INDEX targets.
    """
    batch_size = min(batch_size, max(1, len(text)))  # more would be only padding
    length = -(-len(text) // batch_size)
    padding = length * batch_size - len(text)
    inputs = torch.cat([text.new_tensor([eos_id]), text[:-1], text.new_full((padding,), eos_id)])
    targets = torch.cat([text, text.new_full((padding,), IGNORE_INDEX)])
    return Window(inputs.view(batch_size, length).t(), targets.view(batch_size, length).t())


def split_length(length: int, bptt: int) -> list[int]:
    """Cut `length` steps into windows of `bptt`, the last one shorter."""
    return [min(bptt, length - start) for start in range(0, length, bptt)]


def jittered_lengths(length: int, bptt: int, generator: torch.Generator) -> list[int]:
    """Cut `length` steps into windows of random length around `bptt`, the last one shorter.

    N(bptt, 5) for 95 % of them and N(bptt / 2, 5) for the rest, at least 5 (Merity et al. 2018, arXiv:1708.02182).
    """
    lengths: list[int] = []
    while length > 0:
        mean = bptt if torch.rand((), generator=generator) < 0.95 else bptt / 2
        drawn = int(mean + 5 * torch.randn((), generator=generator))
        lengths.append(min(length, max(5, drawn)))
        length -= lengths[-1]
    return lengths


class Windows:
    """The windows of each epoch in turn, resumable at any window.

    An iterable, because Lightning would add a shuffling sampler to a map-style dataset.

    Args:
        streams: inputs and targets `[L, B]`.
        bptt: steps in a window.
        jitter: vary the lengths (see `jittered_lengths`): they are drawn once, since Lightning asks for the number of
            windows only once, and shuffled for every epoch.
        seed: of the lengths and their order, and of the partial shuffle.
        partial_shuffle: rotate each stream by an offset of its own, drawn for every epoch (Press 2019). Inputs keep
            their targets: only at the seam is the carried state not that of the tokens before.
        rank: of this process, to take its streams' offsets out of those of all streams.
        num_ranks: the number of processes, each with as many streams.
    """

    def __init__(
        self,
        streams: Window,
        bptt: int,
        jitter: bool = False,
        seed: int = 0,
        partial_shuffle: bool = False,
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        self.streams = streams
        self.bptt = bptt
        self.jitter = jitter
        self.seed = seed
        self.partial_shuffle = partial_shuffle
        self.rank, self.num_ranks = rank, num_ranks
        steps = len(streams.inputs)
        self.lengths = jittered_lengths(steps, bptt, self._generator(0)) if jitter else split_length(steps, bptt)
        self.epoch = -1
        self.position = 0  # windows of this epoch already trained on
        self.resuming = False

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[Window]:
        if not self.resuming:
            self.epoch += 1
            self.position = 0
        self.resuming = False
        generator = self._generator(self.epoch + 1)
        lengths = self._lengths_of_epoch(generator)
        offsets = self._offsets(generator) if self.partial_shuffle else None
        start = sum(lengths[: self.position])
        for length in lengths[self.position :]:
            yield self._window(start, length, offsets)
            # only now: a checkpoint written before a step resumes with the window of that step
            self.position += 1
            start += length

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch, self.position, self.resuming = state["epoch"], state["position"], True

    def _window(self, start: int, length: int, offsets: Tensor | None) -> Window:
        """The `length` steps from step `start` of the streams, rotated by their offsets."""
        if offsets is None:
            return Window(*(ids[start : start + length].long() for ids in self.streams))
        steps = torch.arange(start, start + length, device=offsets.device)[:, None]
        rows = (steps + offsets) % len(self.streams.inputs)
        return Window(*(ids.gather(0, rows).long() for ids in self.streams))

    def _offsets(self, generator: torch.Generator) -> Tensor:
        """For each of this rank's streams the step at which it begins, `[B]`."""
        steps, streams = self.streams.inputs.shape
        offsets = torch.randint(steps, (self.num_ranks, streams), generator=generator)
        return offsets[self.rank].to(self.streams.inputs.device)

    def _lengths_of_epoch(self, generator: torch.Generator) -> list[int]:
        if not self.jitter:
            return self.lengths
        order = torch.randperm(len(self.lengths), generator=generator)
        return [self.lengths[i] for i in order.tolist()]

    def _generator(self, epoch: int) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
