"""The neural cache (Grave et al. 2017, "Improving Neural Language Models with a Continuous Cache")."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lm.config.checks import at_least, candidates_for, probability


@dataclass(frozen=True)
class NeuralCache:
    """Words that came a while ago in a like context come again.

    The cache predicts word w with a probability that grows with exp(θ h·h') for each of the last `window` positions
    whose next word was w and whose output h' is like h. It has the share λ in the mixture with the model.

    Args:
        window: positions that are kept.
        theta: θ.
        share: λ.
        candidates: values of `theta` and `share` to choose from on the validation text.

    Raises:
        UserError: if a value is out of range.
    """

    window: int
    theta: float
    share: float
    candidates: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        at_least(1, window=self.window)
        candidates_for(("theta", "share"), self.candidates)
        for theta in (self.theta, *self.candidates.get("theta", ())):
            at_least(0, theta=theta)
        for share in (self.share, *self.candidates.get("share", ())):
            probability(share=share)


class History:
    """The outputs of the last positions and the words that came after them.

    Args:
        window: positions that are kept.
    """

    def __init__(self, window: int) -> None:
        self.window = window
        self.hidden: Tensor | None = None
        self.words: Tensor | None = None

    def predict(self, hidden: Tensor, targets: Tensor, thetas: Sequence[float]) -> Tensor:
        """The cache's probability of each target, then remember them: `[T, B, H]`, `[T, B]` → `[len(thetas), T, B]`.

        NaN where nothing came before.
        """
        hidden = hidden.float()
        if self.hidden is None or self.words is None:
            self.hidden, self.words = hidden[:0], targets[:0]
        past, steps = len(self.hidden), len(hidden)
        self.hidden, self.words = torch.cat([self.hidden, hidden]), torch.cat([self.words, targets])
        with torch.autocast(hidden.device.type, enabled=False):
            likeness = torch.einsum("tbh,sbh->tbs", hidden, self.hidden)
        age = torch.arange(past, past + steps, device=hidden.device)[:, None] - torch.arange(
            past + steps, device=hidden.device
        )
        hidden_from_view = ((age < 1) | (age > self.window))[:, None]
        same = targets[..., None] == self.words.T
        found = []
        for theta in thetas:
            scores = (theta * likeness).masked_fill_(hidden_from_view, -torch.inf)
            found.append(scores.softmax(-1).mul_(same).sum(-1))
        self.hidden, self.words = self.hidden[-self.window :], self.words[-self.window :]
        return torch.stack(found)
