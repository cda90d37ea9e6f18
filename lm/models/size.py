"""The number of a model's parameters by part, and the width that gives a requested number."""

from bisect import bisect_left
from collections.abc import Callable, Sequence

from lm.models.causal_lm import CausalLM


def parameter_counts(model: CausalLM) -> dict[str, int]:
    """The number of parameters in the embedding, core and head; tied weights count once, in the embedding."""
    counts = {"embedding": 0, "core": 0, "head": 0}
    for name, parameter in model.named_parameters():  # tied weights come once, under their first name
        counts[name.partition(".")[0]] += parameter.numel()
    return counts


def describe_parameters(model: CausalLM) -> str:
    """The number of parameters as the sum of the parts."""
    counts = parameter_counts(model)
    tied = {*map(id, model.embedding.tables)} & {*map(id, model.head.parameters())}
    parts = " + ".join(f"{part} {count:,}" for part, count in counts.items())
    return f"{sum(counts.values()):,} = {parts}{' (tied)' if tied else ''}"


def nearest_width(count: Callable[[int], int], widths: Sequence[int], asked: int, others: Sequence[int] = ()) -> int:
    """The width whose count is nearest to `asked`.

    Args:
        count: maps a width to the number of parameters of the model.
        widths: in increasing order, with increasing counts.
        asked: the requested number of parameters.
        others: further widths, whose counts need not fit into this order.
    """
    above = bisect_left(widths, asked, key=count)
    nearby = [*widths[max(above - 1, 0) : above + 1], *others]
    return min(nearby, key=lambda width: abs(count(width) - asked))
