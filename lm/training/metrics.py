"""Loss and perplexity of a whole text, exact to the last token."""

import torch
from torch import Tensor
from torchmetrics import Metric

from lm.ops import IGNORE_INDEX


class TextLoss(Metric):
    """Mean loss in nats, perplexity (its exponential), and the number of tokens.

    Nats and tokens are summed over windows and ranks and divided once, so that all tokens weigh the same.
    """

    full_state_update = False
    nats: Tensor
    tokens: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("nats", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("tokens", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, nll: Tensor, targets: Tensor) -> None:
        """Add the losses `[T, B]` of targets `[T, B]`; those of IGNORE_INDEX targets must be zero."""
        # not in place: trainer.precision=bf16-true casts the sum, but not what is added to it
        self.nats = self.nats + nll.sum(dtype=torch.float64)
        self.tokens += (targets != IGNORE_INDEX).sum()

    def compute(self) -> dict[str, Tensor]:
        loss = self.nats / self.tokens
        return {"loss": loss, "ppl": loss.exp(), "tokens": self.tokens}
