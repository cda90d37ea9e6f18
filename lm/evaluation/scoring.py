"""One pass over a text: each token's log-probability, at several temperatures, and its cache probability."""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from lm.data.windows import Window
from lm.evaluation.dynamic_evaluation import differentiable
from lm.evaluation.neural_cache import CacheHistory
from lm.models import CausalLM
from lm.ops import IGNORE_INDEX


@dataclass(frozen=True)
class TokenScores:
    """The scores of one pass, each `[N]` in the order of the text.

    Attributes:
        targets: token ids.
        positions: the number of tokens before each in its window, including the initial `<eos>`.
        log_probs: by temperature, the model's log-probability in nats.
        cache_probs: by θ, the cache's probability; NaN where the cache is empty.
        seconds: the duration of the pass.
        complete: False if it was interrupted.
    """

    targets: Tensor
    positions: Tensor
    log_probs: dict[float, Tensor]
    cache_probs: dict[float, Tensor]
    seconds: float
    complete: bool


@dataclass(frozen=True)
class Interpolation:
    """(1 - λ) p_model + λ p_cache, p_model at a temperature and p_cache at θ; without θ, p_model alone."""

    temperature: float = 1.0
    theta: float | None = None
    interpolation_weight: float = 0.0

    def nll(self, scores: TokenScores) -> Tensor:
        """The negative log-likelihood of each token, `[N]` in fp64."""
        log_probs = scores.log_probs[self.temperature].double()
        if self.theta is None:
            return -log_probs
        probs, cache_probs = log_probs.exp(), scores.cache_probs[self.theta].double()
        cache_probs = cache_probs.where(~cache_probs.isnan(), probs)  # an empty cache: the model alone
        return -torch.lerp(probs, cache_probs, self.interpolation_weight).log()


def score_tokens(
    model: CausalLM,
    windows: Sequence[Window],
    temperatures: Sequence[float] = (1.0,),
    thetas: Sequence[float] = (),
    cache_window: int = 1,
    step: Callable[[Tensor], None] | None = None,
    autocast: Callable[[], AbstractContextManager] = nullcontext,
    progress: Callable[[Sequence[Window]], Iterable[Window]] = iter,
) -> TokenScores:
    """Score a text in one pass. Ctrl-C ends it with the windows scored so far, if any.

    Args:
        model: in evaluation mode.
        windows: see `Protocol.windows`.
        temperatures: of the softmax.
        thetas: θ of the cache.
        cache_window: the number of positions that the cache stores.
        step: updates the weights on each window's loss (see `DynamicEvaluation.adapting`); None keeps them fixed.
        autocast: the precision to compute in.
        progress: yields the windows while it reports how far they are.
    """
    weight = next(model.parameters())
    device, dtype = weight.device, torch.promote_types(weight.dtype, torch.float32)
    history, state = CacheHistory(cache_window), None
    all_targets = torch.cat([targets for _, targets in windows]).cpu().long()
    # allocated once: a tensor kept of each window would lie between its large temporaries, and the heap would grow
    scored = torch.empty(len(temperatures) + len(thetas), *all_targets.shape, dtype=dtype)
    complete, steps, started = True, 0, time.perf_counter()
    try:
        for inputs, targets in progress(windows):
            inputs, targets = inputs.to(device).long(), targets.to(device).long()
            overlap = len(inputs) - len(targets)
            with torch.set_grad_enabled(step is not None), differentiable(step is not None), autocast():
                hidden, state = model.hidden_states(inputs, state)
                hidden = hidden[overlap:]
                nll = model.head.nll(hidden, targets)
            with torch.no_grad(), autocast():
                log_probs = tempered_log_probs(model, hidden, targets, nll, temperatures)
                cache_probs = history.predict(hidden, targets, thetas) if thetas else nll.new_empty(0, *nll.shape)
            scored[:, steps : steps + len(targets)] = torch.cat([log_probs, cache_probs])
            steps += len(targets)
            state = model.core.carry(state)
            if step:
                step(nll.sum() / (targets != IGNORE_INDEX).sum())
    except KeyboardInterrupt:
        if not steps:
            raise
        complete = False
    seconds = time.perf_counter() - started

    positions = torch.cat([torch.arange(len(inputs) - len(targets), len(inputs)) + 1 for inputs, targets in windows])
    targets, positions, values = (
        _in_text_order(each[..., :steps, :])
        for each in (all_targets, positions[:, None].expand(all_targets.shape), scored)
    )
    is_word = targets != IGNORE_INDEX
    log_probs, cache_probs = values[:, is_word].split([len(temperatures), len(thetas)])
    by_temperature = dict(zip(temperatures, log_probs, strict=True))
    by_theta = dict(zip(thetas, cache_probs, strict=True))
    return TokenScores(targets[is_word], positions[is_word], by_temperature, by_theta, seconds, complete)


def _in_text_order(streams: Tensor) -> Tensor:
    """Stream after stream: `[…, T, B]` → `[…, B · T]`."""
    return streams.mT.flatten(-2)


def tempered_log_probs(
    model: CausalLM, hidden: Tensor, targets: Tensor, nll: Tensor, temperatures: Sequence[float]
) -> Tensor:
    """The targets' log-probabilities in nats at each temperature, `[len(temperatures), T, B]`.

    At temperature 1 they are `-nll`; only the others need the log-probabilities of the whole vocabulary.
    """
    by_temperature = {1.0: -nll.detach()}
    if others := [temperature for temperature in temperatures if temperature != 1]:
        log_probs = model.head.log_prob(hidden)
        indices = targets.clamp(min=0)[..., None]
        for temperature in others:
            logits = log_probs / temperature
            by_temperature[temperature] = logits.gather(-1, indices).squeeze(-1) - logits.logsumexp(-1)
    return torch.stack([by_temperature[temperature] for temperature in temperatures])
