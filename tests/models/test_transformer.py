"""The Transformer core against torch's own encoder, and its options against their definitions."""

import math

import pytest
import torch
from torch import nn

from lm.errors import UserError
from lm.models import TransformerCore
from lm.models.transformer import FeedForward, causal_mask, position_angles, rotate, sinusoids

SIZES = {"hidden_size": 8, "feedforward_size": 20, "num_layers": 3, "num_heads": 2, "dropout": 0.0, "context": 9}


def torchs_encoder(core: TransformerCore, norm: str, activation: str, final_norm: bool) -> nn.TransformerEncoder:
    """torch's encoder with the weights of ours."""
    layer = nn.TransformerEncoderLayer(8, 2, 20, 0.0, activation, norm_first=norm == "pre")
    final = nn.LayerNorm(8) if final_norm else None
    theirs = nn.TransformerEncoder(layer, 3, norm=final, enable_nested_tensor=False)
    names = {
        "attention.query_key_value.weight": "self_attn.in_proj_weight",
        "attention.query_key_value.bias": "self_attn.in_proj_bias",
        "attention.output": "self_attn.out_proj",
        "feedforward.inner": "linear1",
        "feedforward.outer": "linear2",
        "attention_norm": "norm1",
        "feedforward_norm": "norm2",
        "final_norm": "norm",
    }
    weights = {}
    for name, weight in core.state_dict().items():
        for ours, torchs in names.items():
            name = name.replace(ours, torchs)
        weights[name] = weight
    theirs.load_state_dict(weights)
    return theirs


@pytest.mark.parametrize(
    ("norm", "option", "final_norm"),
    [("post", None, False), ("post", True, True), ("pre", None, True), ("pre", False, False)],
)
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_equals_torchs_transformer_encoder(norm, option, final_norm, activation):
    torch.manual_seed(0)
    core = TransformerCore(8, **SIZES, norm=norm, activation=activation, final_norm=option)
    for parameter in core.parameters():  # norms and biases start as ones and zeros, which hides their mix-ups
        nn.init.normal_(parameter, std=0.3)
    inputs = torch.randn(7, 3, 8)
    position = torch.arange(7)[:, None] * torch.exp(torch.arange(0, 8, 2) * (-math.log(10_000.0) / 8))
    encoding = torch.zeros(7, 1, 8)
    encoding[:, 0, 0::2], encoding[:, 0, 1::2] = position.sin(), position.cos()
    mask = torch.log(torch.tril(torch.ones(7, 7)))
    expected = torchs_encoder(core, norm, activation, final_norm)(inputs * math.sqrt(8) + encoding, mask=mask)
    outputs, _ = core(inputs, core.initial_state(3))
    torch.testing.assert_close(outputs, expected, rtol=1e-4, atol=1e-5)


def test_causal_mask_lets_new_positions_see_the_past_and_themselves():
    mask = causal_mask(2, 3, torch.device("cpu"))
    assert mask.tolist() == [[0, 0, 0, 0, -math.inf], [0, 0, 0, 0, 0]]


def test_rotary_scores_depend_on_distance_only():
    query, key = torch.randn(2, 1, 1, 1, 8)
    angles = position_angles(0, 30, 8, torch.device("cpu"))

    def score(i: int, j: int) -> float:
        return (rotate(query, angles[i : i + 1]) * rotate(key, angles[j : j + 1])).sum().item()

    assert score(5, 2) == pytest.approx(score(25, 22), abs=1e-5)
    assert score(5, 2) != pytest.approx(score(5, 3), abs=1e-3)


def test_rotation_turns_a_pair_by_its_angle():
    turned = rotate(torch.tensor([[1.0, 0.0]]), torch.tensor([[math.pi / 2]]))
    torch.testing.assert_close(turned, torch.tensor([[0.0, 1.0]]), atol=1e-6, rtol=0)


def test_rotation_by_nothing_keeps_every_digit():
    for dtype in torch.bfloat16, torch.float32, torch.float64:
        features = torch.randn(3, 4, dtype=torch.float64).to(dtype)
        assert torch.equal(rotate(features, torch.zeros(3, 2)), features)


def test_sinusoids_of_an_odd_size_fit():
    assert sinusoids(position_angles(0, 4, 5, torch.device("cpu")), 5).shape == (4, 5)


def test_swiglu_gates_one_half_by_the_other():
    block = FeedForward(4, 6, 0.0, "swiglu")
    features = torch.randn(3, 4)
    gate, linear = block.inner.weight.chunk(2)
    gate_bias, linear_bias = block.inner.bias.chunk(2)
    gated = features @ gate.T + gate_bias
    expected = (gated * gated.sigmoid() * (features @ linear.T + linear_bias)) @ block.outer.weight.T + block.outer.bias
    torch.testing.assert_close(block(features), expected)


def test_dropout_reaches_every_layer():
    for layer_dropout, rate in ((None, 0.3), (0.1, 0.1), (0.0, 0.0)):
        core = TransformerCore(8, **SIZES | {"dropout": 0.3}, layer_dropout=layer_dropout)
        rates = [module.p for module in core.modules() if isinstance(module, nn.Dropout)]
        assert rates == [0.3] + [rate] * (3 * 3)


@pytest.mark.parametrize("activation", ["relu", "swiglu"])
def test_xavier_draws_every_matrix_of_the_layers_and_leaves_the_rest(activation):
    torch.manual_seed(0)
    sizes = SIZES | {"hidden_size": 128, "feedforward_size": 300}
    default, xavier = (
        TransformerCore(64, **sizes, activation=activation, initialisation=name) for name in ("default", "xavier")
    )
    for (name, before), after in zip(default.named_parameters(), xavier.parameters(), strict=True):
        expected = before.abs().max()
        if name.startswith("layers") and after.dim() > 1:
            expected = torch.tensor(math.sqrt(6 / sum(after.shape)))
        torch.testing.assert_close(after.abs().max(), expected, rtol=0.05, atol=0)


def test_inputs_of_another_size_are_projected():
    core = TransformerCore(5, **SIZES)
    outputs, _ = core(torch.randn(4, 2, 5), core.initial_state(2))
    assert outputs.shape == (4, 2, 8)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_heads": 3}, "num_heads=3 given, but it must divide hidden_size=8"),
        ({"positions": "learned"}, "positions=learned given, but it must be one of sinusoidal, rotary"),
        ({"norm": "both"}, "norm=both given, but it must be one of post, pre"),
        ({"activation": "tanh"}, "activation=tanh given, but it must be one of relu, gelu, swiglu"),
        ({"positions": "rotary", "num_heads": 8}, "rotary needs an even"),
        ({"dropout": -0.1}, "dropout=-0.1"),
        ({"layer_dropout": 1.0}, "layer_dropout=1.0"),
        ({"initialisation": "he"}, "initialisation=he given, but it must be one of default, xavier"),
    ],
)
def test_values_out_of_range_are_refused(wrong, message):
    with pytest.raises(UserError, match=message):
        TransformerCore(8, **SIZES | wrong)
