"""Validation perplexity over time, tokens or steps: a line for each configuration, a band for its seeds."""

from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from lm.plots.labels import families, label
from lm.plots.log_scale import USUAL, log_ticks

# of Okabe and Ito (2008), whose colours differ for the colour-blind, too, without black and yellow
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
STYLES = ("-o", "--s", ":D", "-.^")  # for more lines than colours; the markers for lines of one point
TICKS = (1.0, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)  # where there is about one decade of perplexity

Curve = Sequence[tuple[float, float]]  # x and loss in nats of each validation


def learning_curves(lines: Mapping[str, Sequence[Curve]], xlabel: str) -> Figure:
    """Draw the mean loss of each line's runs as a perplexity, within a standard deviation of it over the runs.

    The legend stands outside and has the lines in the order of their right ends. The background is opaque, for dark
    pages, too.

    Args:
        lines: the runs of each line by its label, one for each seed.
        xlabel: what the curves' x is.
    """
    figure = Figure(figsize=(9, 4.5), layout="constrained", dpi=120, facecolor="white")
    axis = figure.subplots()
    ends = {}
    for i, (name, runs) in enumerate(lines.items()):
        x, mean, std = mean_curve(runs)
        colour, style = COLOURS[i % len(COLOURS)], STYLES[i // len(COLOURS) % len(STYLES)]
        size = 6 if len(x) == 1 else 0
        [line] = axis.plot(x, np.exp(mean), style, color=colour, markersize=size, label=wrapped(name))
        axis.fill_between(x, np.exp(mean - std), np.exp(mean + std), color=colour, alpha=0.2, linewidth=0)
        ends[line] = mean[-1]
    axis.set(yscale="log", xlabel=xlabel, ylabel="validation perplexity")
    axis.xaxis.set_major_formatter(EngFormatter(sep="") if axis.get_xlim()[1] >= 1000 else "{x:g}")
    low, high = axis.get_ylim()
    log_ticks(axis.yaxis, TICKS if high < 10 * low else USUAL)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    handles = sorted(ends, key=ends.__getitem__, reverse=True)
    legend = figure.legend(handles=handles, loc="outside right upper", prop={"family": families()})
    legend.set_frame_on(False)
    for text in legend.get_texts():
        text.set_parse_math(False)
        text.set_fontsize(8)
    return figure


def wrapped(name: str, width: int = 60, lines: int = 4) -> str:
    """A line's label in lines of at most `width` characters."""
    return fill(label(name, width * lines), width, max_lines=lines, placeholder=" …", break_on_hyphens=False)


def mean_curve(runs: Sequence[Curve]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The positions, mean losses and their standard deviations (over n - 1; 0 of one run), `[N]` each.

    Runs are interpolated at the positions of all, as far as every run has come.
    """
    curves = [np.array(sorted(run), dtype=float).T for run in runs]
    positions = np.unique(np.concatenate([x for x, _ in curves]))
    first, last = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    shared = positions[(positions >= first) & (positions <= last)]
    positions = shared if len(shared) else positions[:1]
    losses = np.stack([np.interp(positions, *curve) for curve in curves])
    std = losses.std(axis=0, ddof=1) if len(runs) > 1 else np.zeros(len(positions))
    return positions, losses.mean(axis=0), std
