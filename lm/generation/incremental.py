"""Incremental decoding: any number of tokens at a time, for texts of any length, with every core."""

import math
from typing import Self

import torch
from torch import Tensor

from lm.errors import UserError
from lm.models import CausalLM, State, map_state

CHUNK = 128  # positions decoded at a time, which bounds memory: [CHUNK, V] log-probabilities, [CHUNK, T] attention


class IncrementalDecoder:
    """Feeds B texts to a model in evaluation mode, and keeps the state between calls.

    A core with a bounded context gets at most that many positions: when they are full, the state is recomputed from the
    last half of them, so a word costs at most about two steps on average, and always has at least half a context before
    it.
    """

    def __init__(self, model: CausalLM, batch_size: int) -> None:
        self.model = model
        self.context = model.core.context
        self.state: State = model.core.initial_state(batch_size)
        # the tokens behind the state of a core with a bounded context, [T, B]
        self.recent = torch.empty(0, batch_size, dtype=torch.long, device=next(model.parameters()).device)

    @classmethod
    def prefill(cls, model: CausalLM, prompt: Tensor, batch_size: int) -> Self:
        """A decoder of B texts that all begin with `prompt`, `[T]`, which is read once."""
        decoder = cls(model, 1)
        if len(prompt):
            decoder._hidden_states(prompt[:, None])
        decoder.reorder(prompt.new_zeros(batch_size))
        return decoder

    @torch.inference_mode()
    def decode(self, tokens: Tensor) -> Tensor:
        """Log-probabilities in nats of the word after each token: `[T, B]` → `[T, B, V]`."""
        log_probs = self.model.head.log_prob(self._hidden_states(tokens))
        if not math.isfinite(log_probs.amax(-1).sum().item()):
            raise UserError("The model's log-probabilities are not finite: it has diverged; use another checkpoint.")
        return log_probs

    @torch.inference_mode()
    def reorder(self, indices: Tensor) -> None:
        """Keep the texts with these indices, `[B']`, in this order; an index may occur several times."""
        self.state = map_state(lambda part: part.index_select(self.model.core.batch_dim, indices), self.state)
        self.recent = self.recent.index_select(1, indices)

    @torch.inference_mode()
    def _hidden_states(self, tokens: Tensor) -> Tensor:
        """The core's outputs after each token, `[T, B]` → `[T, B, H]`."""
        if self.context is None:
            return torch.cat([self._advance(part) for part in tokens.split(CHUNK)])
        parts = []
        while len(tokens):
            if len(self.recent) == self.context:
                self._reset()
            room = self.context - len(self.recent)
            self.recent = torch.cat([self.recent, tokens[:room]])
            parts.append(self._advance(tokens[:room]))
            tokens = tokens[room:]
        return torch.cat(parts)

    def _advance(self, tokens: Tensor) -> Tensor:
        hidden, self.state = self.model.hidden_states(tokens, self.state)
        return hidden

    def _reset(self) -> None:
        """Recompute the state from the last half of the context."""
        self.recent = self.recent[len(self.recent) - len(self.recent) // 2 :]
        self.state = self.model.core.initial_state(self.recent.size(1))
        if len(self.recent):
            self._advance(self.recent)
