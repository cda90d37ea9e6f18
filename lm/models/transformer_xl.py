"""Transformer-XL (Dai et al. 2019): attention over a memory of earlier windows, with relative positions."""

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lm.config.checks import at_least, one_of, probability
from lm.models.core import Core
from lm.models.state import State
from lm.models.transformer import (
    NORMS,
    Attention,
    FeedForward,
    TransformerLayer,
    head_size,
    position_angles,
    rotate,
    sinusoids,
)
from lm.ops import Dropout, attention, attention_weights, rms_norm

POSITIONS = ("relative", "rotary")
INITIAL_STD = 0.02  # of all matrices, as in the authors' code
RMS_EPS = 1e-6  # whatever the precision; torch's default depends on it


class RMSNorm(nn.RMSNorm):
    """torch's module with a faster function on a CPU, in the precision of its inputs."""

    def __init__(self, size: int) -> None:
        super().__init__(size, eps=RMS_EPS)

    def forward(self, features: Tensor) -> Tensor:
        assert self.weight is not None
        return rms_norm(features, self.weight, RMS_EPS)


NORM_LAYERS = {"layer_norm": nn.LayerNorm, "rms_norm": RMSNorm}


class TransformerXLCore(Core):
    """Self-attention layers over the inputs scaled by √E, in which a position sees itself and the M before it.

    The state holds the last M inputs of each layer's attention, `[M, B, H]` each, and `seen`, `[M, B]`: 1 where they
    belong to a position of the text, 0 before its start. So the outputs do not depend on how a text is cut into
    windows, and those of n layers depend on n · M earlier positions. Gradients flow through the memory to the
    projections of keys and values, but not into earlier windows.

    Args:
        input_size: E, the size of the embedded tokens; where it differs from H, a linear layer maps it.
        hidden_size: H, the width of the layers.
        feedforward_size: the width inside each layer's feed-forward block.
        num_layers: the number of layers.
        num_heads: attention heads, a divisor of `hidden_size`.
        dropout: of the outputs of attention and feed-forward blocks, inside the latter, and of the encoded distances.
        memory: M, the number of earlier positions that each position attends to.
        input_dropout: of the inputs; None means `dropout`.
        attention_dropout: of the attention weights; None means `dropout`.
        positions: "relative" adds learned functions of the distance to the attention scores (Dai et al. 2019); "rotary"
            rotates queries and keys (Su et al. 2021).
        norm: "post" normalises after each residual connection; "pre" before each block and after the last layer.
        norm_layer: "layer_norm" or "rms_norm" (Zhang and Sennrich 2019).
        qk_norm: whether queries and keys are normalised by RMSNorm, after Henry et al. 2020, who use the ℓ2 norm.
        activation: of the feed-forward block: "relu", "gelu", or "swiglu" (Shazeer 2020).
        bias: whether the feed-forward blocks have biases; attention has none.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        feedforward_size: int,
        num_layers: int,
        num_heads: int,
        dropout: float,
        memory: int,
        input_dropout: float | None = None,
        attention_dropout: float | None = None,
        positions: str = "relative",
        norm: str = "post",
        norm_layer: str = "layer_norm",
        qk_norm: bool = False,
        activation: str = "relu",
        bias: bool = True,
    ) -> None:
        super().__init__(output_size=hidden_size, batch_dim=1)
        input_dropout = dropout if input_dropout is None else input_dropout
        attention_dropout = dropout if attention_dropout is None else attention_dropout
        at_least(1, hidden_size=hidden_size, feedforward_size=feedforward_size, num_layers=num_layers)
        at_least(1, num_heads=num_heads, memory=memory)
        probability(dropout=dropout, input_dropout=input_dropout, attention_dropout=attention_dropout)
        one_of(POSITIONS, positions=positions)
        one_of(NORMS, norm=norm)
        one_of(tuple(NORM_LAYERS), norm_layer=norm_layer)
        self.memory = memory
        self.positions = positions
        self.head_size = head_size(hidden_size, num_heads, positions)
        self.scale = math.sqrt(input_size)
        self.projection = nn.Linear(input_size, hidden_size) if input_size != hidden_size else nn.Identity()
        self.input_dropout = Dropout(input_dropout)
        self.dropout = Dropout(dropout)
        make_norm = partial(NORM_LAYERS[norm_layer], hidden_size)
        self.layers = nn.ModuleList(
            TransformerLayer(
                MemoryAttention(hidden_size, num_heads, attention_dropout, positions, qk_norm),
                FeedForward(hidden_size, feedforward_size, dropout, activation, bias),
                make_norm,
                dropout,
                norm,
            )
            for _ in range(num_layers)
        )
        self.final_norm = make_norm() if norm == "pre" else nn.Identity()
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=INITIAL_STD)

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        memories, seen = state
        steps = inputs.size(0)
        seen = torch.cat([seen, seen.new_ones(steps, seen.size(1))])
        mask, positions = memory_mask(seen, steps), self._positions(seen.size(0), inputs)
        features = self.input_dropout(self.projection(inputs * self.scale).to(inputs.dtype))  # residuals in fp32
        next_memories = []
        for layer, memory in zip(self.layers, memories, strict=True):
            features, memory = layer(features, memory, mask, positions)
            next_memories.append(memory)
        return self.final_norm(features), (tuple(next_memories), seen[steps:])

    def initial_state(self, batch_size: int) -> State:
        """A memory of zeros, none of it seen."""
        zeros = next(self.parameters()).new_zeros
        memories = tuple(zeros(self.memory, batch_size, self.output_size) for _ in self.layers)
        return memories, zeros(self.memory, batch_size)

    def _positions(self, length: int, inputs: Tensor) -> Tensor:
        """Of M + T positions: for "relative" the encodings of the distances M + T - 1 … 0, else the angles."""
        if self.positions == "rotary":
            return position_angles(0, length, self.head_size, inputs.device)
        distances = position_angles(0, length, self.output_size, inputs.device).flip(0)
        return self.dropout(sinusoids(distances, self.output_size).to(inputs.dtype))


class MemoryAttention(Attention):
    """Multi-head attention from each new position to itself and the M before it.

    With relative positions the score of a query q at position i and a key k at j is, before its scaling by 1 / √D,
    (q + u) · k + (q + v) · W r(i - j), where u and v are the head's biases and r(i - j) encodes the distance. With
    `qk_norm` q + u, q + v and k are normalised.
    """

    def __init__(self, hidden_size: int, num_heads: int, dropout: float, positions: str, qk_norm: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_size = hidden_size // num_heads
        self.dropout = Dropout(dropout)
        self.query = nn.Linear(hidden_size, hidden_size, bias=False)
        self.key_value = nn.Linear(hidden_size, 2 * hidden_size, bias=False)
        self.output = nn.Linear(hidden_size, hidden_size, bias=False)
        self.query_norm = RMSNorm(self.head_size) if qk_norm else nn.Identity()
        self.key_norm = RMSNorm(self.head_size) if qk_norm else nn.Identity()
        self.relative = positions == "relative"
        if self.relative:
            self.position = nn.Linear(hidden_size, hidden_size, bias=False)  # W
            self.content_bias = nn.Parameter(torch.zeros(hidden_size))  # u of all heads
            self.position_bias = nn.Parameter(torch.zeros(hidden_size))  # v

    def forward(self, features: Tensor, state: State, mask: Tensor, positions: Tensor | None) -> tuple[Tensor, State]:
        """`[T, B, H]` and its last M inputs `[M, B, H]` → `[T, B, H]` and the last M inputs after it."""
        inputs = torch.cat([state.to(features.dtype), features])
        query, key, value, scores = self._project(features, inputs, mask, positions)
        attended = attention(query, key, value, scores, self.dropout)
        return self.output(attended.permute(2, 0, 1, 3).flatten(2)), inputs[features.size(0) :]

    def weights(self, features: Tensor, state: State, mask: Tensor, positions: Tensor | None) -> Tensor:
        inputs = torch.cat([state.to(features.dtype), features])
        query, key, _, scores = self._project(features, inputs, mask, positions)
        return attention_weights(query, key, scores)

    def _project(
        self, features: Tensor, inputs: Tensor, mask: Tensor, positions: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Queries of the new positions, keys and values of all, `[B, heads, …, D]`, and what is added to the scores."""
        assert positions is not None
        query = self.query(features)
        key, value = (self._heads(part) for part in self.key_value(inputs).chunk(2, dim=-1))
        key = self.key_norm(key)
        if not self.relative:
            angles = positions[inputs.size(0) - features.size(0) :]
            query = self.query_norm(self._heads(query))
            return rotate(query, angles), rotate(key, positions), value, mask
        encodings = self.position(positions).unflatten(-1, (self.num_heads, self.head_size))
        to_content, to_position = (
            self.query_norm(self._heads(query + bias)) for bias in (self.content_bias, self.position_bias)
        )
        scores = relative_shift(torch.einsum("bhtd,lhd->bhtl", to_position, encodings)) / math.sqrt(self.head_size)
        return to_content, key, value, scores + mask

    def _heads(self, features: Tensor) -> Tensor:
        """`[T, B, H]` → `[B, heads, T, D]`."""
        return features.unflatten(-1, (self.num_heads, self.head_size)).permute(1, 2, 0, 3)


def memory_mask(seen: Tensor, steps: int) -> Tensor:
    """The additive mask `[B, 1, T, M + T]`: 0 for a position and those of the M before it that are seen, else -inf.

    `seen` is of memory and window, `[M + T, B]`.
    """
    length = seen.size(0)  # `len` would be a constant of an exported graph
    within = torch.ones(steps, length, device=seen.device).tril(diagonal=length - steps).triu()
    return (within * seen.T[:, None]).log()[:, None]


def relative_shift(scores: Tensor) -> Tensor:
    """Scores of the distances M + T - 1 … 0 → scores of the positions 0 … M + T - 1, both `[B, heads, T, M + T]`.

    Row t moves by T - 1 - t to the left; what enters on the right are positions after it, which are masked.
    """
    batch_size, heads, steps, length = scores.shape
    padded = F.pad(scores, (1, 0)).reshape(batch_size, heads, length + 1, steps)
    return padded[:, :, 1:].reshape(batch_size, heads, steps, length)
