"""Attention weights: those that the forward pass really uses."""

import pytest
import torch

from lm.errors import UserError
from lm.models.attention_weights import attention_weights, has_attention
from lm.models.transformer import CausalAttention
from tests.conftest import TRANSFORMERS, V, make_model


@pytest.mark.parametrize("name", [*TRANSFORMERS, "transformer_xl", "modern_transformer"])
def test_weights_are_shares_of_what_came_before(name):
    weights = attention_weights(make_model(name), torch.randint(V, (7, 3)))
    assert weights.shape == (2, 3, 2, 7, 7)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 2, 7))
    assert (weights.triu(diagonal=1) == 0).all()


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_weights_times_values_are_what_the_layer_puts_out(name):
    model = make_model(name)
    calls = []
    modules = [module for module in model.modules() if isinstance(module, CausalAttention)]
    for module in modules:
        module.register_forward_hook(lambda module, arguments, output: calls.append((module, arguments, output)))
    tokens = torch.randint(V, (6, 2))
    weights = attention_weights(model, tokens)
    assert len(calls) == len(modules)  # one forward pass, and no hook of ours is left
    for layer, (module, _, (output, (_, values))) in zip(weights, calls, strict=True):
        attended = (layer @ values).permute(2, 0, 1, 3).flatten(2)
        torch.testing.assert_close(module.output(attended), output, rtol=1e-4, atol=1e-5)
    model(tokens)
    assert all(not module._forward_pre_hooks for module in modules)


def test_a_recurrent_model_and_a_text_too_long_are_refused():
    with pytest.raises(UserError, match="only a Transformer has any"):
        attention_weights(make_model("gru"), torch.zeros(3, 1, dtype=torch.long))
    with pytest.raises(UserError, match="looks over 4"):
        attention_weights(make_model("transformer", context=4), torch.zeros(5, 1, dtype=torch.long))


def test_a_model_has_attention_whatever_its_context_if_it_has_a_layer_of_it():
    gru, transformer = make_model("gru"), make_model("transformer")
    gru.core.context, transformer.core.context = 5, None
    assert not has_attention(gru)
    assert has_attention(transformer)
    assert attention_weights(transformer, torch.zeros(40, 1, dtype=torch.long)).shape[-1] == 40
