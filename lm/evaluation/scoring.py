"""One pass over a text: for every word the model's probability of it, and what aids would make of that."""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lm.evaluation.dynamic_evaluation import Adaptation, differentiable
from lm.evaluation.neural_cache import History
from lm.evaluation.protocol import ScoredWindow
from lm.models import CausalLM
from lm.ops import IGNORE_INDEX


@dataclass(frozen=True)
class TokenScores:
    """What a pass has found, each `[N]` in the order of the text.

    Attributes:
        targets: the words.
        positions: for each the number of words before it in its window, with the one that the text begins after.
        log_probs: by temperature, the model's log-probability in nats of each.
        cached: by θ, the cache's probability of each; NaN where nothing came before.
        seconds: that the pass took.
        complete: False where it was interrupted.
    """

    targets: Tensor
    positions: Tensor
    log_probs: dict[float, Tensor]
    cached: dict[float, Tensor]
    seconds: float
    complete: bool


@dataclass(frozen=True)
class Mixture:
    """A temperature of the softmax, and a cache's θ and share λ: (1 - λ) p_model + λ p_cache."""

    temperature: float = 1.0
    theta: float | None = None
    share: float = 0.0

    def nats(self, measurement: TokenScores) -> Tensor:
        """The negative log-likelihood of each word under this variant, `[N]` in fp64."""
        log_probs = measurement.log_probs[self.temperature].double()
        if self.theta is None:
            return -log_probs
        probs, cached = log_probs.exp(), measurement.cached[self.theta].double()
        return -torch.lerp(probs, cached.where(~cached.isnan(), probs), self.share).log()


def measure(
    model: CausalLM,
    windows: Iterable[ScoredWindow],
    temperatures: Sequence[float] = (1.0,),
    thetas: Sequence[float] = (),
    cache_window: int = 1,
    adaptation: Adaptation | None = None,
    autocast: Callable[[], AbstractContextManager] = nullcontext,
) -> TokenScores:
    """Read a text once. Ctrl-C ends the pass with what it has, unless that is nothing.

    Args:
        model: in evaluation mode.
        windows: the text, in columns; see `Protocol`.
        temperatures: of the softmax, each measured.
        thetas: θ of the cache, each measured.
        cache_window: positions that the cache keeps.
        adaptation: moves the weights after each window; None leaves them alone.
        autocast: the precision to compute in.
    """
    device = next(model.parameters()).device
    history, state = History(cache_window), None
    found: list[WindowScores] = []
    complete, started = True, time.perf_counter()
    try:
        for inputs, targets in windows:
            inputs, targets = inputs.to(device).long(), targets.to(device).long()
            overlap = len(inputs) - len(targets)
            with torch.set_grad_enabled(adaptation is not None), differentiable(adaptation is not None), autocast():
                hidden, state = model.hidden_states(inputs, state)
                hidden = hidden[overlap:]
                nll = model.head.nll(hidden, targets)
            with torch.no_grad(), autocast():
                log_probs = tempered(model, hidden, targets, nll, temperatures)
                cached = history.predict(hidden, targets, thetas) if thetas else nll.new_empty(0, *nll.shape)
            positions = torch.arange(overlap + 1, len(inputs) + 1)[:, None].expand(targets.shape)
            found.append(WindowScores(targets.cpu(), positions, log_probs.cpu(), cached.cpu()))
            state = model.core.carry(state)
            if adaptation:
                adaptation.step(nll.sum() / (targets != IGNORE_INDEX).sum())
    except KeyboardInterrupt:
        if not found:
            raise
        complete = False
    return collected(found, temperatures, thetas, time.perf_counter() - started, complete)


class WindowScores(NamedTuple):
    """What a window has given, `[…, T, B]` each; see `TokenScores`."""

    targets: Tensor
    positions: Tensor
    log_probs: Tensor
    cached: Tensor


def tempered(model: CausalLM, hidden: Tensor, targets: Tensor, nll: Tensor, temperatures: Sequence[float]) -> Tensor:
    """The targets' log-probabilities in nats at each temperature, `[len(temperatures), T, B]`.

    `nll` is that at a temperature of 1; all words' log-probabilities are looked at only where there are others.
    """
    found = {1.0: -nll.detach()}
    if others := [temperature for temperature in temperatures if temperature != 1]:
        log_probs = model.head.log_prob(hidden)
        words = targets.clamp(min=0)[..., None]
        for temperature in others:
            scores = log_probs / temperature
            found[temperature] = scores.gather(-1, words).squeeze(-1) - scores.logsumexp(-1)
    return torch.stack([found[temperature] for temperature in temperatures])


def collected(
    found: Sequence[WindowScores],
    temperatures: Sequence[float],
    thetas: Sequence[float],
    seconds: float,
    complete: bool,
) -> TokenScores:
    """Join what the windows have given, column after column, and leave the padding out."""
    targets, positions, log_probs, cached = (torch.cat(parts, -2).mT.flatten(-2) for parts in zip(*found, strict=True))
    scored = targets != IGNORE_INDEX
    return TokenScores(
        targets[scored],
        positions[scored],
        dict(zip(temperatures, log_probs[:, scored], strict=True)),
        dict(zip(thetas, cached[:, scored], strict=True)),
        seconds,
        complete,
    )
