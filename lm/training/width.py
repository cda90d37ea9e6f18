"""Solves for the core's width that gives `model.num_params` parameters; checkpoints hold only the width."""

from functools import cache

import torch
from hydra.utils import instantiate
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig

from lm.config.num_params import asked_params, drop_num_params
from lm.config.ranges import RANGES
from lm.errors import UserError
from lm.models.size import nearest_width, parameter_counts

TOLERANCE = 0.01  # of the number asked for, where the smallest or largest width misses it
LARGEST = int(RANGES["model.core.hidden_size"].high)


def set_width(config: DictConfig) -> None:
    """Replace `model.num_params` in `config` by the width of the core that comes nearest, and print it.

    Reads the text, since the size of the vocabulary counts, and builds each model that it tries on the meta device.
    The embedding keeps its size; a Transformer's feed-forward blocks keep the ratio of their width to the core's.
    """
    asked, part = asked_params(config)
    typed = config.model.get("num_params")
    drop_num_params(config)
    if asked is None:
        return
    given = f"model.num_params={typed if isinstance(typed, str) else asked}"
    vocabulary_size, core = len(instantiate(config.data).corpus.vocabulary), config.model.core
    if "hidden_size" not in core:
        raise UserError(f"{given} given, but model.core has no hidden_size to solve for: leave it out.")
    ratio = core.feedforward_size / core.hidden_size if "feedforward_size" in core else None

    def resize(width: int) -> None:
        core.hidden_size = width
        if ratio is not None:
            core.feedforward_size = max(1, round(width * ratio))

    @cache
    def count(width: int) -> int:
        resize(width)
        with torch.device("meta"):
            counts = parameter_counts(instantiate(config.model, vocabulary_size=vocabulary_size))
        return sum(counts.values()) if part == "all" else counts[part]

    step = width_multiple(core)
    widths = range(step, int(LARGEST / max(1, ratio or 1)) + 1, step)
    # a core as wide as the embedding is smaller than its neighbours: it needs no projection
    own = [width for width in (config.model.embedding.get("embedding_size"),) if width in widths]
    width = nearest_width(count, [each for each in widths if each not in own], asked, own)
    whose = "the model has" if part == "all" else "the core has"
    if abs(count(width) - asked) > TOLERANCE * asked and not count(widths[0]) < asked < count(widths[-1]):
        raise UserError(
            f"{given} given, but {whose} at least {count(widths[0]):,} parameters (hidden_size={widths[0]}) and at "
            f"most {count(widths[-1]):,} (hidden_size={widths[-1]}): give a number between, or change the other sizes."
        )
    resize(width)
    sizes = " and ".join(f"{key}={core[key]}" for key in ("hidden_size", "feedforward_size") if key in core)
    rank_zero_only(print)(
        f"{given}: with {sizes} {whose} {count(width):,} parameters ({count(width) / asked - 1:+.2%}), "
        f"{'embedding and head included' if part == 'all' else 'embedding and head not included'}",
        flush=True,
    )


def width_multiple(core: DictConfig) -> int:
    """What a core's width must be a multiple of: the number of its heads, twice that for rotary positions."""
    heads = core.get("num_heads") or 1
    return heads * 2 if core.get("positions") == "rotary" else heads
