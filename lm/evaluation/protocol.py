"""Which words stand before a word when it is scored."""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor

from lm.data.windows import Window, batchify, batchify_padded
from lm.errors import UserError
from lm.models import Core

WINDOW = 35  # positions in a window of a core that remembers what came before it


class ScoredWindow(NamedTuple):
    """Inputs `[O + T, B]`, of which the first O are read again and not scored, and targets `[T, B]`."""

    inputs: Tensor
    targets: Tensor


@dataclass(frozen=True)
class Protocol:
    """Text in columns side by side, read window by window.

    Args:
        columns: how many; the state begins anew in each.
        trim: leave out the first word of each column and the words that do not fill a row, as pytorch/examples does;
            False scores every word once.
        context: positions in a window; None takes those that the core is meant for, or WINDOW.
        stride: words scored in a window; the `context - stride` before them are read again. None takes all for a
            core that remembers, else half of them.

    """

    columns: int = 10
    trim: bool = False
    context: int | None = None
    stride: int | None = None

    def fitted(self, core: Core) -> "Protocol":
        """The same with the context and stride that are right for `core`.

        Raises:
            UserError: if the stride is longer than the context, or given for a core that remembers.
        """
        context = self.context or core.context or WINDOW
        stride = self.stride or (context if core.context is None else max(1, context // 2))
        if stride > context:
            raise UserError(
                f"evaluation.stride={stride} given, but it must be at most evaluation.context={context}: "
                "words in between would not be scored."
            )
        if core.context is None and stride < context:
            raise UserError(
                f"evaluation.stride={stride} with evaluation.context={context} given, but a recurrent model carries "
                "its state through the whole text and reads nothing again: leave evaluation.stride out."
            )
        return replace(self, context=context, stride=stride)

    def lay_out(self, stream: Tensor, eos_id: int) -> Window:
        """The columns of a text `[N]`: inputs and targets `[L, B]`.

        Raises:
            UserError: if the text is too short for them.
        """
        if self.trim:
            return batchify(stream, self.columns, "evaluation.columns")
        return batchify_padded(stream, self.columns, eos_id)

    def windows(self, columns: Window) -> list[ScoredWindow]:
        """The windows of a fitted layout, views of the columns; the first one scores all its words."""
        assert self.context is not None and self.stride is not None
        length = len(columns.inputs)
        starts = [0, *range(self.context, length, self.stride)]
        windows = []
        for start, end in pairwise([*starts, length]):
            begin = max(0, start - (self.context - self.stride))
            windows.append(ScoredWindow(columns.inputs[begin:end], columns.targets[start:end]))
        return windows
