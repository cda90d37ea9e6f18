"""The attention weights of a Transformer."""

from typing import Any

import torch
from torch import Tensor

from lm.errors import UserError
from lm.models import CausalLM
from lm.models.transformer import Attention


def has_attention(model: CausalLM) -> bool:
    """Whether a model has attention weights."""
    return bool(_modules(model))


@torch.no_grad()
def attention_weights(model: CausalLM, tokens: Tensor) -> Tensor:
    """The attention weights `[layers, B, heads, T, T]` of a text `[T, B]`, recorded by hooks on a forward pass."""
    modules, context = _modules(model), model.core.context
    if not modules:
        raise UserError("The attention of a recurrent model was asked for, but only a Transformer has any.")
    if context is not None and len(tokens) > context:
        raise UserError(
            f"The attention over {len(tokens)} positions was asked for, but this model looks over "
            f"{context}: give a shorter line."
        )
    weights: list[Tensor] = []

    def record(module: Attention, arguments: tuple[Any, ...]) -> None:
        weights.append(module.weights(*arguments)[..., -len(tokens) :])  # without a memory, which is empty

    hooks = [module.register_forward_pre_hook(record) for module in modules]
    try:
        model.hidden_states(tokens)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack(weights)


def _modules(model: CausalLM) -> list[Attention]:
    return [module for module in model.core.modules() if isinstance(module, Attention)]
