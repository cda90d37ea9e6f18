"""Where a Transformer looks: a map for each layer and head."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from torch import Tensor

from lm.plots.files import label


def attention_maps(weights: Tensor, words: Sequence[str]) -> Figure:
    """Draw attention weights, layers down and heads across.

    Args:
        weights: `[layers, heads, T, T]`: how much of each position (across) a position (down) takes.
        words: the T words that were read.
    """
    layers, heads = weights.shape[:2]
    side = min(max(2.6, 0.16 * len(words) + 0.8), 40 / max(layers, heads))
    figure = Figure(figsize=(side * heads + 0.8, side * layers), layout="constrained")
    axes = figure.subplots(layers, heads, squeeze=False)
    labels = [label(word, 12) for word in words]
    for layer in range(layers):
        for head in range(heads):
            axis = axes[layer, head]
            image = axis.imshow(weights[layer, head].numpy(), cmap="Blues", vmin=0, vmax=1)
            axis.set_title(f"layer {layer + 1}, head {head + 1}", fontsize=9)
            axis.set_xticks(range(len(labels)), labels, rotation=90, fontsize=6)
            axis.set_yticks(range(len(labels)), labels if head == 0 else [], fontsize=6)
    figure.colorbar(image, ax=axes, label="attention", shrink=0.6)
    return figure
