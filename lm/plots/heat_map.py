"""A heat map of all log-probabilities: a row per position, the words of the vocabulary across."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from lm.plots.labels import families, label

COLUMNS = 1200  # per panel, at most


def log_prob_heat_map(log_probs: Sequence[Tensor], targets: Sequence[Tensor], words: Sequence[Sequence[str]]) -> Figure:
    """Draw log-probabilities, one panel per text: sequence position down, the frequency rank of words across.

    The rank is a word's token index + 1, on a logarithmic axis, since most of the probability is that of few words.
    Where several words share a column, it shows the most probable of them. A ring marks the target.

    Args:
        log_probs: for each text the log-probabilities of every word at every position, `[T, V]`, in nats.
        targets: for each text the token ids of its words, `[T]`.
        words: for each text its words, T of them, as labels of the rows.
    """
    panels = [panel.numpy() for panel in log_probs]
    height = max(3.0, 0.18 * max(map(len, words)) + 1)
    figure = Figure(figsize=(5.5 * len(panels) + 1, height), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    lowest = min(float(panel.min()) for panel in panels)
    for number, (axis, panel, ids, text) in enumerate(zip(axes, panels, targets, words, strict=True), 1):
        ranks = _column_edges(panel.shape[1])
        pooled = np.maximum.reduceat(panel, ranks[:-1] - 1, axis=1)
        rows = np.arange(len(text) + 1) - 0.5
        image = axis.pcolormesh(ranks, rows, pooled, cmap="viridis", vmin=lowest, vmax=0, rasterized=True)
        middles = np.sqrt((ids.numpy() + 1) * (ids.numpy() + 2))  # on a logarithmic axis
        axis.scatter(middles, range(len(text)), s=16, facecolors="none", edgecolors="white", linewidths=0.8)
        axis.set(xscale="log", xlim=(1, ranks[-1]), ylim=(len(text) - 0.5, -0.5))
        axis.set_xlabel("frequency rank of the word (token index + 1); ring: the actual next word", fontsize=8)
        axis.set_yticks(
            range(len(text)), [label(word) for word in text], fontsize=7, parse_math=False, family=families()
        )
        if len(panels) > 1:
            axis.set_title(f"text {number}")
    axes[0].set_ylabel("sequence position")
    figure.colorbar(image, ax=axes, label="log-probability (nats)")
    return figure


def _column_edges(size: int) -> np.ndarray:
    """The first rank of each column, about evenly spaced on a logarithmic axis, and the one after the last."""
    return np.unique(np.geomspace(1, size + 1, COLUMNS + 1).round().astype(int))
