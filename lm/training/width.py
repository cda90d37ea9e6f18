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

    Reads the text, since the size of the vocabulary counts.
    """
    asked, part = asked_params(config)
    typed = config.model.get("num_params")
    drop_num_params(config)
    if asked is None:
        return
    given = f"model.num_params={typed if isinstance(typed, str) else asked}"
    if "hidden_size" not in config.model.core:
        raise UserError(f"{given} given, but model.core has no hidden_size to solve for: leave it out.")
    core = CoreWidth(config.model, len(instantiate(config.data).corpus.vocabulary), part)
    width, smallest, largest = core.nearest(asked), core.widths[0], core.widths[-1]
    whose = "the model has" if part == "all" else "the core has"
    reachable = core.count(smallest) < asked < core.count(largest)
    if not reachable and abs(core.count(width) - asked) > TOLERANCE * asked:
        raise UserError(
            f"{given} given, but {whose} at least {core.count(smallest):,} parameters (hidden_size={smallest}) and at "
            f"most {core.count(largest):,} (hidden_size={largest}): give a number between, or change the other sizes."
        )
    core.resize(width)
    rank_zero_only(print)(
        f"{given}: with {core.sizes} {whose} {core.count(width):,} parameters ({core.count(width) / asked - 1:+.2%}), "
        f"{'embedding and head included' if part == 'all' else 'embedding and head not included'}",
        flush=True,
    )


class CoreWidth:
    """The width of a model's core, and the number of parameters with each: models are built on the meta device.

    The embedding keeps its size; a Transformer's feed-forward blocks keep the ratio of their width to the core's.

    Args:
        model: the model's config, whose core is resized in place.
        vocabulary_size: V.
        part: "all" counts the whole model, "core" the core alone.
    """

    def __init__(self, model: DictConfig, vocabulary_size: int, part: str) -> None:
        self.model = model
        self.vocabulary_size = vocabulary_size
        self.part = part
        self.ratio = model.core.feedforward_size / model.core.hidden_size if "feedforward_size" in model.core else None
        self.count = cache(self._count)

    @property
    def widths(self) -> range:
        """All widths that the core may have."""
        step = width_multiple(self.model.core)
        return range(step, int(LARGEST / max(1, self.ratio or 1)) + 1, step)

    @property
    def sizes(self) -> str:
        """The core's sizes as overrides, as in "hidden_size=400 and feedforward_size=1600"."""
        core = self.model.core
        return " and ".join(f"{key}={core[key]}" for key in ("hidden_size", "feedforward_size") if key in core)

    def nearest(self, asked: int) -> int:
        """The width whose number of parameters is nearest to `asked`."""
        # a core as wide as the embedding is smaller than its neighbours: it needs no projection
        own = [width for width in (self.model.embedding.get("embedding_size"),) if width in self.widths]
        return nearest_width(self.count, [width for width in self.widths if width not in own], asked, own)

    def resize(self, width: int) -> None:
        """Set the width."""
        self.model.core.hidden_size = width
        if self.ratio is not None:
            self.model.core.feedforward_size = max(1, round(width * self.ratio))

    def _count(self, width: int) -> int:
        self.resize(width)
        with torch.device("meta"):
            counts = parameter_counts(instantiate(self.model, vocabulary_size=self.vocabulary_size))
        return sum(counts.values()) if self.part == "all" else counts[self.part]


def width_multiple(core: DictConfig) -> int:
    """What a core's width must be a multiple of: the number of its heads, twice that for rotary positions."""
    heads = core.get("num_heads") or 1
    return heads * 2 if core.get("positions") == "rotary" else heads
