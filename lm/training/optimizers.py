"""torch's optimizers, with a choice of the parameters that weight decay applies to."""

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from lm.config.checks import one_of
from lm.models import CausalLM

DECAY = ("all", "matrices")


class ModelParameters:
    """The parameters of a model by kind; iterating over it gives all of them, as torch's optimizers expect.

    Attributes:
        all: every parameter, in the order of `model.parameters()`.
        matrices: all but biases, weights of norms, and embeddings. An output matrix that is tied to the embedding
            counts as embedding.
        hidden_matrices: the matrices of the core.
    """

    def __init__(self, model: CausalLM) -> None:
        embeddings = {*model.embedding.tables, *(m.weight for m in model.modules() if isinstance(m, nn.Embedding))}
        core = {*model.core.parameters()}
        self.all = list(model.parameters())
        self.matrices = [each for each in self.all if each.ndim > 1 and each not in embeddings]
        self.hidden_matrices = [each for each in self.matrices if each.ndim == 2 and each in core]

    def __iter__(self) -> Iterator[nn.Parameter]:
        return iter(self.all)

    def groups(self, decay: str) -> list[dict[str, Any]]:
        """Parameter groups for torch: one of all, or the matrices and then the others, which have no weight decay."""
        one_of(DECAY, decay=decay)
        if decay == "all":
            return [{"params": self.all}]
        matrices = {*self.matrices}
        others = [each for each in self.all if each not in matrices]
        return [{"params": self.matrices}, {"params": others, "weight_decay": 0.0}]


def with_decay(optimizer: type[Optimizer]) -> Callable[..., Optimizer]:
    """The optimizer with one more argument, `decay`: whether `weight_decay` applies to "all" or only to "matrices"."""

    @functools.wraps(optimizer.__init__)
    def make(params: ModelParameters, *arguments: Any, decay: str = "all", **options: Any) -> Optimizer:
        return optimizer(params.groups(decay), *arguments, **options)

    signature = inspect.signature(optimizer)
    argument = inspect.Parameter("decay", inspect.Parameter.KEYWORD_ONLY, default="all", annotation=str)
    make.__signature__ = signature.replace(parameters=[*signature.parameters.values(), argument])  # type: ignore[attr-defined]
    make.__annotations__ = make.__annotations__ | {"decay": str}
    return make


SGD, Adam, AdamW = (with_decay(each) for each in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW))
