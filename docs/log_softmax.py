"""The figure and the numbers of log_softmax.md: `python docs/log_softmax.py` writes figures/log_softmax.png."""

import math
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def limits(dtype: torch.dtype) -> tuple[float, float]:
    """Where exp ends, in nats: above the first it is infinite, below the second it rounds to 0."""
    info = torch.finfo(dtype)
    smallest = info.smallest_normal * info.eps  # subnormal; half of it rounds to 0
    return math.log(info.max), math.log(smallest / 2)


def log_probability(gap: Tensor, stable: bool) -> Tensor:
    """The log-probability of the less likely of two words whose logits differ by `gap`, in the dtype of `gap`."""
    logits = torch.stack([torch.zeros_like(gap), -gap], dim=-1)
    return (logits.log_softmax(-1) if stable else logits.softmax(-1).log())[..., 1]


def losses_and_gradients(logits: Tensor, target: int) -> dict[str, tuple[float, Tensor]]:
    """The loss in nats of one target, and its gradient with respect to the logits `[V]`, computed in three ways."""
    losses = {
        "NLLLoss of log(softmax)": lambda x, y: F.nll_loss(x.softmax(-1).log(), y),
        "NLLLoss of log_softmax": lambda x, y: F.nll_loss(x.log_softmax(-1), y),
        "cross_entropy": F.cross_entropy,
    }
    rows = {name: logits.detach()[None].requires_grad_() for name in losses}
    values = {name: loss(rows[name], torch.tensor([target])) for name, loss in losses.items()}
    return {name: (value.item(), torch.autograd.grad(value, rows[name])[0][0]) for name, value in values.items()}


def figure() -> Figure:
    """Both formulas over the gap between two logits, and the error of each below."""
    drawing = Figure(figsize=(11, 6), layout="constrained")
    axes = drawing.subplots(2, len(DTYPES), sharex=True, sharey="row", height_ratios=(2, 1))
    for dtype, value, error in zip(DTYPES, *axes, strict=True):
        gap, end = torch.linspace(0, 130, 1301).to(dtype), -limits(dtype)[1]
        truth = log_probability(gap.double(), stable=True)
        for stable, name, width in ((True, "log_softmax", 4), (False, "log(softmax)", 1)):
            computed = log_probability(gap, stable).double()
            value.plot(gap.double(), computed.where(computed.isfinite(), math.nan), label=name, linewidth=width)
            error.plot(gap.double(), (computed - truth).abs().where(computed.isfinite(), math.nan), linewidth=width)
        value.axvline(end, color="tab:red", linestyle=":")
        value.set_title(f"{str(dtype).removeprefix('torch.')}: −∞ beyond {end:.1f}")
        error.set_xlabel("gap between two logits (nats)")
    axes[0, 0].set_ylabel("log-probability of the\nless likely word (nats)")
    axes[0, 0].legend(loc="lower left")
    axes[1, 0].set_ylabel("error (nats)")
    return drawing


if __name__ == "__main__":
    figure().savefig(Path(__file__).parent / "figures" / "log_softmax.png", dpi=80)
