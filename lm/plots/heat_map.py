"""A heat map of all log-probabilities: a row per position, a column per word of the vocabulary."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from lm.plots.labels import label

COLUMNS = 1200  # per panel: with more token indices, several share a column


def log_prob_heat_map(log_probs: Sequence[Tensor], words: Sequence[Sequence[str]]) -> Figure:
    """Draw log-probabilities, one panel per text: sequence position down, token index across.

    Where several token indices share a column, it shows the most probable of them.

    Args:
        log_probs: for each text the log-probabilities of every word at every position, `[T, V]`, in nats.
        words: for each text the target words, T of them, as labels of the rows.
    """
    panels = [_pooled(panel.numpy()) for panel in log_probs]
    height = max(3.0, 0.18 * max(map(len, words)) + 1)
    figure = Figure(figsize=(5.5 * len(panels) + 1, height), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    lowest = min(float(panel.min()) for panel in panels)
    for column, (axis, panel, text) in enumerate(zip(axes, panels, words, strict=True)):
        image = axis.imshow(
            panel,
            aspect="auto",
            interpolation="nearest",
            cmap="viridis",
            vmin=lowest,
            vmax=0,
            extent=(0, log_probs[column].shape[1], len(text) - 0.5, -0.5),
        )
        axis.set_title(f"text {column + 1}")
        axis.set_xlabel("token index (0 is the most frequent word)")
        axis.set_yticks(range(len(text)), [label(word) for word in text], fontsize=7, parse_math=False)
    axes[0].set_ylabel("sequence position")
    figure.colorbar(image, ax=axes, label="log-probability (nats)")
    return figure


def _pooled(panel: np.ndarray) -> np.ndarray:
    """The highest value in each group of neighbouring token indices: `[T, V]` → `[T, ≤ COLUMNS]`."""
    size = -(-panel.shape[1] // COLUMNS)
    padding = -panel.shape[1] % size
    padded = np.pad(panel, ((0, 0), (0, padding)), constant_values=-np.inf)
    return padded.reshape(len(panel), -1, size).max(axis=2)
