"""The Transformer core (Vaswani et al. 2017), decoder-only, with its KV cache as state."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lm.config.checks import at_least, one_of, probability
from lm.errors import UserError
from lm.models.core import Core
from lm.models.state import State
from lm.ops import Dropout, attention, attention_weights

POSITIONS = ("sinusoidal", "rotary")
NORMS = ("post", "pre")
ACTIVATIONS = ("relu", "gelu", "swiglu")
INITIALISATIONS = ("default", "xavier")


class TransformerCore(Core):
    """Causal self-attention layers over the inputs scaled by √E.

    The state holds for each layer the keys and values of the P positions so far, `[B, heads, P, H / heads]` each; the
    inputs of a call stand at positions P, P + 1, and so on.

    Args:
        input_size: E, the size of the embedded tokens; where it differs from H, a linear layer maps it.
        hidden_size: H, the width of the layers.
        feedforward_size: the width inside each layer's feed-forward block.
        num_layers: the number of layers.
        num_heads: attention heads, a divisor of `hidden_size`.
        dropout: of the inputs and, in the layers, of attention weights and of each block's inner and outer outputs.
        context: the context length that it is trained for: the positions of a training window.
        positions: "sinusoidal" encodings are added to the inputs; "rotary" rotates queries and keys (Su et al. 2021).
        norm: "post" normalises after each residual connection; "pre" before each block.
        activation: of the feed-forward block: "relu", "gelu", or "swiglu" (Shazeer 2020).
        final_norm: whether a LayerNorm follows the last layer; None means with norm="pre" only.
        layer_dropout: the dropout inside the layers, where it differs from that of the inputs.
        initialisation: of the layers' matrices: "default", as `nn.TransformerEncoderLayer` draws them, or "xavier",
            Xavier-uniform for all of them, as `nn.Transformer` does.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        feedforward_size: int,
        num_layers: int,
        num_heads: int,
        dropout: float,
        context: int,
        positions: str = "sinusoidal",
        norm: str = "post",
        activation: str = "relu",
        final_norm: bool | None = None,
        layer_dropout: float | None = None,
        initialisation: str = "default",
    ) -> None:
        super().__init__(output_size=hidden_size, batch_dim=0, context=context)
        layer_dropout = dropout if layer_dropout is None else layer_dropout
        at_least(1, hidden_size=hidden_size, feedforward_size=feedforward_size, num_layers=num_layers)
        at_least(1, num_heads=num_heads, context=context)
        probability(dropout=dropout, layer_dropout=layer_dropout)
        one_of(INITIALISATIONS, initialisation=initialisation)
        one_of(POSITIONS, positions=positions)
        one_of(NORMS, norm=norm)
        self.positions = positions
        self.num_heads = num_heads
        self.head_size = head_size(hidden_size, num_heads, positions)
        self.projection = nn.Linear(input_size, hidden_size) if input_size != hidden_size else nn.Identity()
        self.scale = math.sqrt(input_size)
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(
            TransformerLayer(
                CausalAttention(hidden_size, num_heads, layer_dropout),
                FeedForward(hidden_size, feedforward_size, layer_dropout, activation),
                partial(nn.LayerNorm, hidden_size),
                layer_dropout,
                norm,
            )
            for _ in range(num_layers)
        )
        has_final_norm = norm == "pre" if final_norm is None else final_norm
        self.final_norm = nn.LayerNorm(hidden_size) if has_final_norm else nn.Identity()
        if initialisation == "xavier":
            for parameter in self.layers.parameters():
                if parameter.dim() > 1:
                    nn.init.xavier_uniform_(parameter)

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        past, steps = state[0][0].size(2), inputs.size(0)
        mask = causal_mask(steps, past, inputs.device)
        # 1. inputs with their positions, or the rotation that the layers apply to queries and keys
        features = self.projection(inputs * self.scale).to(inputs.dtype)  # residual connections add in fp32
        rotation = None
        if self.positions == "rotary":
            rotation = position_angles(past, steps, self.head_size, inputs.device)
        else:
            angles = position_angles(past, steps, self.output_size, inputs.device)
            features = features + sinusoids(angles, self.output_size)[:, None].to(features.dtype)
        features = self.dropout(features)
        # 2. the layers, each with its own keys and values
        next_state = []
        for layer, keys_and_values in zip(self.layers, state, strict=True):
            features, keys_and_values = layer(features, keys_and_values, mask, rotation)
            next_state.append(keys_and_values)
        return self.final_norm(features), tuple(next_state)

    def initial_state(self, batch_size: int) -> State:
        """Keys and values of no positions, for each layer."""
        empty = next(self.parameters()).new_empty(batch_size, self.num_heads, 0, self.head_size)
        return tuple((empty, empty) for _ in self.layers)

    def carry(self, state: State) -> State:
        """An empty state: windows are independent of each other."""
        return self.initial_state(batch_size=state[0][0].size(0))


class TransformerLayer(nn.Module):
    """Attention, then a feed-forward block, each with a residual connection, a norm and dropout.

    Args:
        attention: maps `[T, B, H]` and the layer's state to `[T, B, H]` and the next state.
        feedforward: maps `[T, B, H]` to `[T, B, H]`.
        make_norm: makes the norm of H features, twice.
        dropout: of the outputs of both.
        norm: "post" or "pre", as in TransformerCore.
    """

    def __init__(
        self,
        attention: "Attention",
        feedforward: nn.Module,
        make_norm: Callable[[], nn.Module],
        dropout: float,
        norm: str,
    ) -> None:
        super().__init__()
        self.attention = attention
        self.feedforward = feedforward
        self.attention_norm = make_norm()
        self.feedforward_norm = make_norm()
        self.dropout = Dropout(dropout)
        self.pre_norm = norm == "pre"

    def forward(self, features: Tensor, state: State, mask: Tensor, positions: Tensor | None) -> tuple[Tensor, State]:
        """`[T, B, H]` and the state of the attention → `[T, B, H]` and its next state."""
        if self.pre_norm:
            attended, state = self.attention(self.attention_norm(features), state, mask, positions)
            features = features + self.dropout(attended)
            return features + self.dropout(self.feedforward(self.feedforward_norm(features))), state
        attended, state = self.attention(features, state, mask, positions)
        features = self.attention_norm(features + self.dropout(attended))
        return self.feedforward_norm(features + self.dropout(self.feedforward(features))), state


class Attention(nn.Module, ABC):
    """The attention of a TransformerLayer."""

    @abstractmethod
    def forward(self, features: Tensor, state: State, mask: Tensor, positions: Tensor | None) -> tuple[Tensor, State]:
        """Map `[T, B, H]` to `[T, B, H]`, and the state to that after the last position."""

    @abstractmethod
    def weights(self, features: Tensor, state: State, mask: Tensor, positions: Tensor | None) -> Tensor:
        """The attention weights of `forward`, from each new position to all: `[B, heads, T, P + T]`, rows sum to 1."""


class CausalAttention(Attention):
    """Multi-head attention from each new position to itself and all before it."""

    def __init__(self, hidden_size: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_size = hidden_size // num_heads
        self.dropout = Dropout(dropout)
        self.query_key_value = nn.Linear(hidden_size, 3 * hidden_size)
        self.output = nn.Linear(hidden_size, hidden_size)
        nn.init.xavier_uniform_(self.query_key_value.weight)  # as in torch's own layer
        nn.init.zeros_(self.query_key_value.bias)
        nn.init.zeros_(self.output.bias)

    def forward(self, features: Tensor, state: State, mask: Tensor, rotation: Tensor | None) -> tuple[Tensor, State]:
        """`[T, B, H]` → `[T, B, H]`; the keys and values of the state grow by T positions."""
        query, keys, values = self._project(features, state, rotation)
        attended = attention(query, keys, values, mask, self.dropout)
        return self.output(attended.permute(2, 0, 1, 3).flatten(2)), (keys, values)

    def weights(self, features: Tensor, state: State, mask: Tensor, rotation: Tensor | None) -> Tensor:
        query, keys, _ = self._project(features, state, rotation)
        return attention_weights(query, keys, mask)

    def _project(self, features: Tensor, state: State, rotation: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of the new positions, keys and values of all: `[B, heads, …, head_size]` each."""
        steps, batch_size, _ = features.shape
        heads = self.query_key_value(features).view(steps, batch_size, 3, self.num_heads, self.head_size)
        query, key, value = heads.permute(2, 1, 3, 0, 4)
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        past_keys, past_values = state
        keys = torch.cat([past_keys.to(key.dtype), key], dim=2)
        return query, keys, torch.cat([past_values.to(value.dtype), value], dim=2)


class FeedForward(nn.Module):
    """`[T, B, H]` → `[T, B, H]`, position-wise; swiglu gates one half of the inner projection by the other."""

    def __init__(
        self, hidden_size: int, feedforward_size: int, dropout: float, activation: str, bias: bool = True
    ) -> None:
        super().__init__()
        one_of(ACTIVATIONS, activation=activation)
        self.activation = activation
        inner_size = 2 * feedforward_size if activation == "swiglu" else feedforward_size
        self.inner = nn.Linear(hidden_size, inner_size, bias)
        self.outer = nn.Linear(feedforward_size, hidden_size, bias)
        self.dropout = Dropout(dropout)

    def forward(self, features: Tensor) -> Tensor:
        return self.outer(self.dropout(self._activate(self.inner(features))))

    def _activate(self, features: Tensor) -> Tensor:
        if self.activation == "swiglu":
            gate, features = features.chunk(2, dim=-1)
            return F.silu(gate) * features
        return F.gelu(features) if self.activation == "gelu" else F.relu(features)


def head_size(hidden_size: int, num_heads: int, positions: str) -> int:
    """The size of each attention head; raises UserError if the heads do not divide the width."""
    if hidden_size % num_heads:
        raise UserError(f"num_heads={num_heads} given, but it must divide hidden_size={hidden_size}.")
    size = hidden_size // num_heads
    if positions == "rotary" and size % 2:
        raise UserError(f"positions=rotary needs an even hidden_size / num_heads, not {size}.")
    return size


def causal_mask(steps: int, past: int, device: torch.device) -> Tensor:
    """The additive attention mask, `[T, P + T]`: 0 for a position and its past, -inf for its future."""
    return torch.ones(steps, past + steps, device=device).tril(diagonal=past).log()


def position_angles(past: int, steps: int, size: int, device: torch.device) -> Tensor:
    """The angles `[T, ⌈size / 2⌉]` of positions P … P + T - 1: position × 10000^(-2i / size)."""
    positions = torch.arange(past, past + steps, device=device, dtype=torch.float32)
    frequencies = torch.exp(torch.arange(0, size, 2, device=device, dtype=torch.float32) * (-math.log(10_000.0) / size))
    return positions[:, None] * frequencies


def sinusoids(angles: Tensor, size: int) -> Tensor:
    """Sines in the even features and cosines in the odd ones: `[T, ⌈size / 2⌉]` → `[T, size]`."""
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :size]


def rotate(features: Tensor, angles: Tensor) -> Tensor:
    """Rotate each pair of features of `[B, heads, T, D]` by the angles `[T, D / 2]` of its position."""
    if torch.compiler.is_exporting():  # ONNX has no complex numbers
        even, odd = features[..., 0::2], features[..., 1::2]
        sin, cos = angles.sin().to(features.dtype), angles.cos().to(features.dtype)
        return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2)
    precise = features.to(torch.promote_types(features.dtype, torch.float32))  # no complex numbers are of 16 bits
    pairs = torch.view_as_complex(precise.unflatten(-1, (-1, 2)))
    rotated = pairs * torch.polar(torch.ones_like(angles), angles)
    return torch.view_as_real(rotated).flatten(-2).to(features.dtype)
