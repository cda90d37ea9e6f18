"""The neural cache (Grave et al. 2017, "Improving Neural Language Models with a Continuous Cache")."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lm.config.checks import at_least, candidates_for, probability


@dataclass(frozen=True)
class NeuralCache:
    """A distribution over the words that followed similar contexts, interpolated with the model's.

    p_cache(w | h_t) ∝ Σ_i 1{w = x_{i+1}} exp(θ h_t·h_i) over the last `window` positions i, and
    p(w) = (1 - λ) p_model(w) + λ p_cache(w).

    Args:
        window: the number of past positions stored.
        theta: θ, the inverse temperature of the similarity.
        interpolation_weight: λ.
        candidates: values of `theta` and `interpolation_weight` to tune on the validation split.
    """

    window: int
    theta: float
    interpolation_weight: float
    candidates: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        at_least(1, window=self.window)
        candidates_for(("theta", "interpolation_weight"), self.candidates)
        for theta in (self.theta, *self.candidates.get("theta", ())):
            at_least(0, theta=theta)
        for weight in (self.interpolation_weight, *self.candidates.get("interpolation_weight", ())):
            probability(interpolation_weight=weight)


class CacheHistory:
    """The hidden states h_i at the last `window` positions, and the words x_{i+1} that followed them."""

    def __init__(self, window: int) -> None:
        self.window = window
        self.hidden: Tensor | None = None
        self.words: Tensor | None = None

    def predict(self, hidden: Tensor, targets: Tensor, thetas: Sequence[float]) -> Tensor:
        """p_cache of each target, then store them: `[T, B, H]`, `[T, B]` → `[len(thetas), T, B]`.

        NaN where the cache is empty.
        """
        hidden = hidden.float()
        if self.hidden is None or self.words is None:
            self.hidden, self.words = hidden[:0], targets[:0]
        past, steps = len(self.hidden), len(hidden)
        self.hidden, self.words = torch.cat([self.hidden, hidden]), torch.cat([self.words, targets])
        # h_t·h_i for each position t and each stored i
        with torch.autocast(hidden.device.type, enabled=False):
            similarity = torch.einsum("tbh,sbh->tbs", hidden, self.hidden)
        # position t sees those 1 to `window` steps before it
        positions = torch.arange(past + steps, device=hidden.device)
        age = positions[past:, None] - positions
        masked = ((age < 1) | (age > self.window))[:, None]
        # the softmax weights of the positions whose next word is the target
        same = targets[..., None] == self.words.T
        probs = []
        for theta in thetas:
            weights = (theta * similarity).masked_fill_(masked, -torch.inf).softmax(-1)
            probs.append(weights.mul_(same).sum(-1))
        self.hidden, self.words = self.hidden[-self.window :], self.words[-self.window :]
        return torch.stack(probs)
