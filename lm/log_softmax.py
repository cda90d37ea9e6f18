"""Why a language model computes log_softmax and never log(softmax): the numbers and the figure of a short page."""

import math
from typing import Any, NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
WAYS: tuple[tuple[bool, str, dict[str, Any]], ...] = (
    (True, "log_softmax", {"color": "tab:blue", "linewidth": 4, "alpha": 0.5}),
    (False, "log(softmax)", {"color": "black", "linewidth": 1}),
)


class Precision(NamedTuple):
    """Where a kind of number ends: the largest exponential, and the log-probability below which softmax gives 0."""

    name: str
    overflow: float
    underflow: float


def precision(dtype: torch.dtype) -> Precision:
    """The limits of exp in nats: x above `overflow` gives infinity, x below `underflow` gives zero."""
    info = torch.finfo(dtype)
    smallest = info.smallest_normal * info.eps  # subnormal
    # more than half of the smallest number is rounded up to it, the rest to zero
    return Precision(str(dtype).removeprefix("torch."), math.log(info.max), math.log(smallest / 2))


def losses_and_gradients(logits: Tensor, target: int) -> dict[str, tuple[float, Tensor]]:
    """The loss in nats of one word `target`, and its gradient by the logits `[V]`, in three ways."""
    ways = {
        "NLLLoss of log(softmax)": lambda x, y: F.nll_loss(x.softmax(-1).log(), y),
        "NLLLoss of log_softmax": lambda x, y: F.nll_loss(x.log_softmax(-1), y),
        "cross_entropy": F.cross_entropy,
    }
    found = {}
    for name, way in ways.items():
        row = logits.detach()[None].requires_grad_()
        loss = way(row, torch.tensor([target], device=logits.device))
        [gradient] = torch.autograd.grad(loss, row)
        found[name] = loss.item(), gradient[0]
    return found


def log_probability(gap: Tensor, stable: bool) -> Tensor:
    """The log-probability of the less likely of two words whose logits differ by `gap`, in the precision of `gap`."""
    logits = torch.stack([torch.zeros_like(gap), -gap], dim=-1)
    return (logits.log_softmax(-1) if stable else logits.softmax(-1).log())[..., 1]


def figure() -> Figure:
    """Draw both ways as the gap between two logits grows, and below it how far each is from the truth."""
    picture = Figure(figsize=(11, 6), layout="constrained")
    values, errors = picture.subplots(2, len(DTYPES), sharex=True, sharey="row", height_ratios=(2, 1))
    for value, error, dtype in zip(values, errors, DTYPES, strict=True):
        gap = torch.linspace(0, 130, 1301).to(dtype)
        truth = log_probability(gap.double(), stable=True)
        limits = precision(dtype)
        for stable, name, style in WAYS:
            found = log_probability(gap, stable).double()
            found = found.where(found.isfinite(), math.nan)
            value.plot(gap.double(), found, label=name, **style)
            error.plot(gap.double(), (found - truth).abs(), label=name, **style)
        for axis in (value, error):
            axis.axvline(-limits.underflow, color="tab:red", linestyle=":")
            axis.grid(alpha=0.3)
        value.set_title(f"{limits.name}: −∞ beyond {-limits.underflow:.1f}")
        error.set_xlabel("gap between two logits (nats)")
    values[0].set_ylabel("log-probability of the\nless likely word (nats)")
    values[0].legend(loc="lower left")
    errors[0].set_ylabel("error (nats)")
    return picture


def page(picture: str) -> str:
    """The page in Markdown, with the file `picture` in it; every number is computed."""
    limits = "\n".join(f"| {row.name} | {row.overflow:.1f} | {row.underflow:.1f} |" for row in map(precision, DTYPES))
    return PAGE.format(
        picture=picture,
        limits=limits,
        odds=math.exp(-precision(torch.float16).underflow) / 1e6,
        moderate=_comparison(torch.tensor([2.0, 0.0, -3.0]), target=1),
        extreme=_comparison(torch.tensor([2.0, -130.0, -3.0]), target=1),
    )


def _comparison(logits: Tensor, target: int) -> str:
    rows = []
    for name, (loss, gradient) in losses_and_gradients(logits, target).items():
        rows.append(f"| {name} | {loss:.4f} | {', '.join(f'{value:.4f}' for value in gradient.tolist())} |")
    return "\n".join(rows)


PAGE = """# Why log_softmax, and not log(softmax)

A language model's last layer gives each word a logit x; its log-probability is log softmax(x) = x − log Σ exp(x).
Written as `x.softmax(-1).log()`, the formula goes through the probability itself, and a number of finite precision
cannot hold a small one: it becomes 0, and its logarithm −∞. `x.log_softmax(-1)` subtracts the largest logit m first,
x − m − log Σ exp(x − m): no exponential is above 1, the sum is at least 1, and the small probability is never formed.

![log(softmax) falls to minus infinity where log_softmax goes on]({picture})

Between two words the step into nothing comes at these values (nats); a vocabulary of V words moves it by up to log V.
Just before it the digits run out, and log(softmax) is wrong by up to log 2 nats (the lower panels).

| numbers | exp overflows above | softmax is 0 below |
| --- | --- | --- |
{limits}

In float16 that is one word in {odds:.0f} million, no rarity for a model that is sure of itself. The overflow matters to
a softmax written by hand, exp(x) / Σ exp(x), which lacks the subtraction.

`NLLLoss` takes log-probabilities, so it belongs behind `log_softmax`; together they are `cross_entropy`, which takes
logits. For logits 2, 0, −3 and the second word as the target, in float32:

| loss | nats | gradient by the logits |
| --- | --- | --- |
{moderate}

All the same, and the gradient is softmax(x) with 1 taken from the target's. For logits 2, −130, −3:

| loss | nats | gradient by the logits |
| --- | --- | --- |
{extreme}

One inf or nan here and every weight is nan after the next step. Two slips that cost nothing but the result:
`NLLLoss` on raw logits (a loss below zero that never stops falling) and `cross_entropy` on log-probabilities (harmless,
for log_softmax of log-probabilities changes nothing, but a second pass over the vocabulary).
"""
