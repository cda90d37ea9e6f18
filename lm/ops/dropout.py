"""Dropout with a cheaper mask on a CPU, drawn for each element or once for all steps of a window."""

import torch
from torch import Tensor, nn

BITS = 16  # random bits per element


class Dropout(nn.Dropout):
    """Dropout (Srivastava et al. 2014) whose rate on a CPU is `p` to the nearest 2^-16.

    The random bits are most of dropout's cost on a CPU: torch draws 64 for each element, one after another.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training or self.p == 0 or inputs.device.type != "cpu":
            return super().forward(inputs)
        count = inputs.numel()
        dropped = min(round(self.p * 2**BITS), 2**BITS - 1)  # of the values that 16 bits have
        words = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None)  # all 64 bits of a word
        kept = words.view(torch.int16)[:count].view(inputs.shape) >= dropped - 2 ** (BITS - 1)
        return inputs * kept.to(inputs.dtype).div_(1 - dropped / 2**BITS)


class LockedDropout(Dropout):
    """Variational dropout: one mask for all time steps of `[T, B, X]` (Gal and Ghahramani 2016; Merity et al. 2018)."""

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return inputs
        return inputs * super().forward(inputs.new_ones(inputs.shape[1:]))


def make_dropout(p: float, locked: bool) -> Dropout:
    """Dropout with probability `p`, locked over time or not."""
    return LockedDropout(p) if locked else Dropout(p)
