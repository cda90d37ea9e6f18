"""Evaluation protocols: how a text is cut into windows, and which tokens are scored."""

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from lm.data.windows import Window, batchify, batchify_padded
from lm.errors import UserError
from lm.models import Core

RECURRENT_CONTEXT = 35  # positions in a window of a recurrent core, whose state carries the earlier context


@dataclass(frozen=True)
class Protocol:
    """A text in parallel streams, read by a sliding window.

    Args:
        batch_size: number of streams; each starts from the initial state.
        trim: do not score the first token of each stream and the last N mod `batch_size` tokens, as in
            pytorch/examples; False scores every token once.
        context: positions in a window.
        stride: tokens scored per window; the `context - stride` before them are fed again as context.
    """

    batch_size: int
    trim: bool
    context: int
    stride: int

    @classmethod
    def for_core(
        cls,
        core: Core,
        batch_size: int = 10,
        trim: bool = False,
        context: int | None = None,
        stride: int | None = None,
    ) -> "Protocol":
        """Default to the context and stride that suit `core`: a Transformer's own context and half of it."""
        carries_state = core.context is None
        context = context or core.context or RECURRENT_CONTEXT
        stride = stride or (context if carries_state else max(1, context // 2))
        if stride > context:
            raise UserError(
                f"evaluation.stride={stride} given, but it must be at most evaluation.context={context}: "
                "words in between would not be scored."
            )
        if carries_state and stride < context:
            raise UserError(
                f"evaluation.stride={stride} with evaluation.context={context} given, but this model carries "
                "its state through the whole text and reads nothing again: leave evaluation.stride out."
            )
        return cls(batch_size, trim, context, stride)

    def streams(self, token_ids: Tensor, eos_id: int) -> Window:
        """Cut a text `[N]` into streams: inputs and targets `[L, B]`; IGNORE_INDEX targets are padding."""
        if self.trim:
            return batchify(token_ids, self.batch_size, "evaluation.batch_size")
        return batchify_padded(token_ids, self.batch_size, eos_id)

    def windows(self, token_ids: Tensor, eos_id: int) -> list[Window]:
        """Cut a text `[N]` into windows: inputs `[O + T, B]`, whose first O are only context, and targets `[T, B]`."""
        inputs, targets = self.streams(token_ids, eos_id)
        length, overlap = len(targets), self.context - self.stride
        bounds = pairwise([0, *range(self.context, length, self.stride), length])
        return [Window(inputs[max(0, start - overlap) : end], targets[start:end]) for start, end in bounds]
