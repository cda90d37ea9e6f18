"""Attention maps, one per layer and head of a Transformer."""

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from torch import Tensor

from lm.plots.labels import families, label

CELL = 0.15  # inches, of a pair of words
WIDEST = 36.0  # inches, of all heads together; with many, the cells shrink


def attention_maps(weights: Tensor, words: Sequence[str]) -> Figure:
    """Draw attention weights, a row of panels for each layer and a column for each head.

    Within a panel the queries are on the left, the keys below. Colours show the square root of the weight, so that
    attention spread over many words is visible.

    Args:
        weights: of one text, `[layers, heads, T, T]`; see `lm.models.attention_weights`.
        words: the T input words.
    """
    layers, heads, steps, _ = weights.shape
    panel = max(2.0, min(CELL * steps, WIDEST / heads))
    figure = Figure(figsize=(heads * panel + 2.2, layers * panel + 1.5), layout="constrained", dpi=120)
    panels = figure.subplots(layers, heads, squeeze=False)
    future = np.triu(np.ones((steps, steps), dtype=bool), k=1)
    size = min(7.0, 72 * 0.8 * panel / steps)
    ticks, names = range(steps), [label(word, 14) for word in words]
    for layer in range(layers):
        for head in range(heads):
            axis = panels[layer, head]
            values = np.ma.masked_array(weights[layer, head].float().numpy(), future)
            image = axis.imshow(values, cmap="magma_r", norm=PowerNorm(0.5, vmin=0, vmax=1), interpolation="nearest")
            axis.set_title(f"layer {layer + 1}, head {head + 1}", fontsize=9)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
            axis.tick_params(length=0)
    for axis in panels[-1]:
        axis.set_xticks(ticks, names, fontsize=size, rotation=90, parse_math=False, family=families())
    for axis in panels[:, 0]:
        axis.set_yticks(ticks, names, fontsize=size, parse_math=False, family=families())
    figure.supylabel("query", fontsize=9)
    figure.supxlabel("key", fontsize=9)
    figure.colorbar(image, ax=panels, label="attention weight (a row sums to 1)", shrink=0.6)
    return figure
