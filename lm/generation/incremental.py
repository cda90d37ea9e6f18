"""Reading one word or many at a time, for as long as one likes, with every core alike."""

import torch
from torch import Tensor

from lm.errors import UserError
from lm.models import CausalLM, State, map_state

CHUNK = 128  # positions of a long text at a time: [CHUNK, V] log-probabilities are in memory at once


class IncrementalDecoder:
    """Feeds tokens to a model and keeps the state that it needs to go on.

    A core with a bounded context gets at most that many positions: when they are used up, the state is made anew
    from the last half of them, so that a word costs about two steps at most, and always has half a context before it.

    Args:
        model: in evaluation mode.
        batch_size: the number of texts read side by side, B.
    """

    def __init__(self, model: CausalLM, batch_size: int) -> None:
        self.model = model
        self.context = model.core.context
        self.state: State = model.core.initial_state(batch_size)
        self.recent = torch.empty(0, batch_size, dtype=torch.long)  # the tokens behind the state

    @classmethod
    def after(cls, model: CausalLM, prompt: Tensor, batch_size: int) -> "IncrementalDecoder":
        """A reader of B texts that all begin with `prompt`, `[T]`, which is read once for all and part by part."""
        reader = cls(model, 1)
        for start in range(0, len(prompt), CHUNK):
            reader.read(prompt[start : start + CHUNK, None])
        reader.select(prompt.new_zeros(batch_size))
        return reader

    def read(self, tokens: Tensor) -> Tensor:
        """Log-probabilities in nats of the word after each token: `[T, B]` → `[T, B, V]`.

        Raises:
            UserError: if they are no numbers.
        """
        log_probs = self._read(tokens)
        if not log_probs.amax(-1).isfinite().all():
            raise UserError("The model's log-probabilities are not finite: it has diverged; use another checkpoint.")
        return log_probs

    @torch.inference_mode()
    def _read(self, tokens: Tensor) -> Tensor:
        if self.context is None:
            log_probs, self.state = self.model(tokens, self.state)
            return log_probs
        parts = []
        while len(tokens):
            if len(self.recent) == self.context:
                self._begin_anew()
            room = self.context - len(self.recent)
            chunk, tokens = tokens[:room], tokens[room:]
            log_probs, self.state = self.model(chunk, self.state)
            self.recent = torch.cat([self.recent.to(chunk.device), chunk])
            parts.append(log_probs)
        return torch.cat(parts)

    @torch.inference_mode()
    def select(self, columns: Tensor) -> None:
        """Go on with these of the texts, `[B']`; one may be taken several times."""
        dim = self.model.core.batch_dim
        self.state = map_state(lambda part: part.index_select(dim, columns), self.state)
        self.recent = self.recent.index_select(1, columns.to(self.recent.device))

    def _begin_anew(self) -> None:
        """Make the state anew from the last half of the context."""
        self.recent = self.recent[len(self.recent) - len(self.recent) // 2 :]
        self.state = self.model.core.initial_state(self.recent.size(1))
        if len(self.recent):
            _, self.state = self.model(self.recent, self.state)
