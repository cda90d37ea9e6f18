"""The Transformer-XL core against its equations, written out position by position, and its memory."""

import math

import pytest
import torch
from torch import nn

from lm.errors import UserError
from lm.models import TransformerXLCore, map_state
from lm.models.transformer_xl import MemoryAttention, memory_mask, relative_shift

SIZES = {"hidden_size": 8, "feedforward_size": 12, "num_layers": 2, "num_heads": 2, "dropout": 0.0, "memory": 3}
MODERN = {"positions": "rotary", "norm": "pre", "norm_layer": "rms_norm", "qk_norm": True, "bias": False}
VARIANTS = ({}, {"norm": "pre"}, MODERN, MODERN | {"activation": "swiglu"})


def random_core(**options: object) -> TransformerXLCore:
    """A core whose parameters are all random: norms and biases start as ones and zeros, which hides their mix-ups."""
    torch.manual_seed(0)
    core = TransformerXLCore(8, **SIZES | options)
    for parameter in core.parameters():
        nn.init.normal_(parameter, std=0.4)
    return core


def encoding(distance: int, size: int) -> torch.Tensor:
    """Sines in the even features and cosines in the odd ones."""
    angles = [distance / 10_000 ** (2 * i / size) for i in range(size // 2)]
    return torch.tensor([[math.sin(angle), math.cos(angle)] for angle in angles]).flatten()


def plain_relative(attention: MemoryAttention, inputs: torch.Tensor, span: int) -> torch.Tensor:
    """Softmax of ((q_i + u) · k_j + (q_i + v) · W r(i - j)) / √D over i - span ≤ j ≤ i, of one stream `[T, H]`."""
    heads, size = attention.num_heads, attention.head_size
    query = attention.query(inputs).view(-1, heads, size)
    key, value = attention.key_value(inputs).view(-1, 2, heads, size).unbind(1)
    u, v = attention.content_bias.view(heads, size), attention.position_bias.view(heads, size)
    rows = []
    for i in range(len(inputs)):
        parts = []
        for h in range(heads):
            seen = range(max(0, i - span), i + 1)
            scores = []
            for j in seen:
                position = attention.position(encoding(i - j, heads * size)).view(heads, size)[h]
                content = (query[i, h] + u[h]) @ key[j, h]
                scores.append((content + (query[i, h] + v[h]) @ position) / math.sqrt(size))
            weights = torch.stack(scores).softmax(0)
            parts.append(sum(weight * value[j, h] for weight, j in zip(weights, seen, strict=True)))
        rows.append(attention.output(torch.cat(parts)))
    return torch.stack(rows)


def plain_rotary(attention: MemoryAttention, inputs: torch.Tensor, span: int) -> torch.Tensor:
    """The same with queries and keys of RMS 1, rotated as complex numbers by their positions."""
    heads, size = attention.num_heads, attention.head_size

    def rotated(features: torch.Tensor, position: int) -> torch.Tensor:
        pairs = torch.view_as_complex(features.view(-1, 2))
        angles = torch.tensor([position / 10_000 ** (2 * i / size) for i in range(size // 2)])
        return torch.view_as_real(pairs * torch.polar(torch.ones(size // 2), angles)).flatten()

    def normal(features: torch.Tensor, norm: nn.RMSNorm) -> torch.Tensor:
        return features / features.square().mean().sqrt() * norm.weight

    query = attention.query(inputs).view(-1, heads, size)
    key, value = attention.key_value(inputs).view(-1, 2, heads, size).unbind(1)
    rows = []
    for i in range(len(inputs)):
        parts = []
        for h in range(heads):
            seen, turned = range(max(0, i - span), i + 1), rotated(normal(query[i, h], attention.query_norm), i)
            keys = [rotated(normal(key[j, h], attention.key_norm), j) for j in seen]
            weights = torch.stack([turned @ each / math.sqrt(size) for each in keys]).softmax(0)
            parts.append(sum(weight * value[j, h] for weight, j in zip(weights, seen, strict=True)))
        rows.append(attention.output(torch.cat(parts)))
    return torch.stack(rows)


def plain(core: TransformerXLCore, inputs: torch.Tensor) -> torch.Tensor:
    """The whole core on one stream `[T, E]`, without a memory: each layer reads the whole text."""
    attend = plain_relative if core.positions == "relative" else plain_rotary
    features = inputs * math.sqrt(inputs.size(-1))
    for layer in core.layers:
        if layer.pre_norm:
            features = features + attend(layer.attention, layer.attention_norm(features), core.memory)
            features = features + layer.feedforward(layer.feedforward_norm(features))
        else:
            features = layer.attention_norm(features + attend(layer.attention, features, core.memory))
            features = layer.feedforward_norm(features + layer.feedforward(features))
    return core.final_norm(features)


@pytest.mark.parametrize("options", VARIANTS)
def test_values_and_gradients_are_those_of_the_equations(options):
    core = random_core(**options)
    inputs = torch.randn(9, 2, 8, requires_grad=True)
    given = [inputs, *core.parameters()]
    outputs, _ = core(inputs, core.initial_state(2))
    exact = torch.stack([plain(core, inputs[:, i]) for i in range(2)], dim=1)
    torch.testing.assert_close(outputs, exact, rtol=1e-4, atol=1e-5)
    direction = torch.randn_like(outputs)
    ours, theirs = (torch.autograd.grad((each * direction).sum(), given) for each in (outputs, exact))
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("options", VARIANTS)
@pytest.mark.parametrize("lengths", [[9], [1] * 9, [4, 1, 4], [2, 7]])
def test_the_memory_joins_windows_of_any_length(options, lengths):
    core = random_core(**options).eval()
    inputs = torch.randn(9, 2, 8)
    whole, _ = core(inputs, core.initial_state(2))
    parts, state = [], core.initial_state(2)
    for part in inputs.split(lengths):
        outputs, state = core(part, state)
        parts.append(outputs)
        state = core.carry(state)
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-4, atol=1e-5)


def test_a_layer_sees_as_many_earlier_positions_as_the_memory_has_and_n_layers_n_times_as_many():
    core = random_core().eval()
    inputs = torch.randn(10, 1, 8, requires_grad=True)
    outputs, _ = core(inputs, core.initial_state(1))
    outputs[9].sum().backward()
    reached = (inputs.grad.abs().sum((1, 2)) > 1e-9).nonzero().flatten().tolist()
    assert reached == list(range(9 - 2 * 3, 10))


def test_gradients_reach_the_weights_through_the_memory_but_not_the_window_before():
    core = random_core(num_layers=1)
    first, second = torch.randn(3, 1, 8, requires_grad=True), torch.randn(1, 1, 8)
    _, state = core(first, core.initial_state(1))
    outputs, _ = core(second, core.carry(state))
    outputs.sum().backward()
    assert first.grad is None
    with_memory = core.layers[0].attention.key_value.weight.grad.clone()
    core.zero_grad()
    core(second, core.initial_state(1))[0].sum().backward()
    assert not torch.allclose(with_memory, core.layers[0].attention.key_value.weight.grad)


def test_the_state_has_a_fixed_size_and_counts_what_was_seen():
    core = random_core()
    _, (memories, seen) = core(torch.randn(2, 4, 8), core.initial_state(4))
    assert seen.sum(0).tolist() == [2] * 4
    assert [memory.shape for memory in memories] == [(3, 4, 8)] * 2
    _, state = core(torch.randn(50, 4, 8), (memories, seen))
    shapes = []
    map_state(lambda tensor: shapes.append(tuple(tensor.shape)), state)
    assert shapes == [(3, 4, 8), (3, 4, 8), (3, 4)]


def test_a_position_sees_itself_and_the_seen_part_of_the_memory_before_it():
    seen = torch.tensor([[0.0], [1.0], [1.0], [1.0]])  # a memory of two, half of it seen, and a window of two
    assert memory_mask(seen, 2).exp().tolist() == [[[[0, 1, 1, 0], [0, 1, 1, 1]]]]


def test_relative_shift_moves_scores_of_distances_to_positions():
    steps, memory = 3, 2
    distances = torch.arange(steps + memory - 1, -1, -1.0).expand(1, 1, steps, -1)
    shifted = relative_shift(distances)[0, 0]
    for t in range(steps):
        for j in range(memory + t + 1):
            assert shifted[t, j] == memory + t - j


def test_dropouts_have_rates_of_their_own():
    core = TransformerXLCore(8, **SIZES | {"dropout": 0.1}, input_dropout=0.6, attention_dropout=0.2)
    assert core.input_dropout.p == 0.6
    assert all(layer.attention.dropout.p == 0.2 and layer.dropout.p == 0.1 for layer in core.layers)
    default = TransformerXLCore(8, **SIZES | {"dropout": 0.1})
    assert default.input_dropout.p == default.layers[0].attention.dropout.p == 0.1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"memory": 0}, "memory=0 given, but it must be at least 1"),
        ({"num_heads": 3}, "num_heads=3 given, but it must divide hidden_size=8"),
        ({"positions": "sinusoidal"}, "positions=sinusoidal given, but it must be one of relative, rotary"),
        ({"norm_layer": "batch"}, "norm_layer=batch given, but it must be one of layer_norm, rms_norm"),
        ({"positions": "rotary", "num_heads": 8}, "rotary needs an even"),
        ({"attention_dropout": 1.0}, "attention_dropout=1.0"),
    ],
)
def test_values_out_of_range_are_refused(wrong, message):
    with pytest.raises(UserError, match=message):
        TransformerXLCore(8, **SIZES | wrong)
