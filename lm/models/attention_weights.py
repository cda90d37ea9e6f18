"""What a Transformer attends to while it reads."""

from typing import Any

import torch
from torch import Tensor

from lm.errors import UserError
from lm.models import CausalLM
from lm.models.transformer import CausalAttention


def has_attention(model: CausalLM) -> bool:
    """Whether there are attention weights to look at."""
    return bool(_modules(model))


@torch.no_grad()
def attention_weights(model: CausalLM, tokens: Tensor) -> Tensor:
    """The attention weights `[layers, B, heads, T, T]` of a text `[T, B]`, found beside the forward pass.

    Raises:
        UserError: if the model has no attention, or the text is longer than it is meant to look over.
    """
    modules, context = _modules(model), model.core.context
    if not modules:
        raise UserError("The attention of a recurrent model was asked for, but only a Transformer has any.")
    if context is not None and len(tokens) > context:
        raise UserError(
            f"The attention over {len(tokens)} positions was asked for, but this model looks over "
            f"{context}: give a shorter line."
        )
    found: list[Tensor] = []

    def look(module: CausalAttention, arguments: tuple[Any, ...]) -> None:
        found.append(module.weights(*arguments))

    hooks = [module.register_forward_pre_hook(look) for module in modules]
    try:
        model.read(tokens)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack(found)


def _modules(model: CausalLM) -> list[CausalAttention]:
    return [module for module in model.core.modules() if isinstance(module, CausalAttention)]
