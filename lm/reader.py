"""Reading one word or many at a time, for as long as one likes, with every core alike."""

import torch
from torch import Tensor

from lm.models import State, TokenModel


class Reader:
    """Feeds tokens to a model and keeps the state that it needs to go on.

    A core with a bounded context gets at most that many positions: when they are used up, the state is made anew
    from the last half of them, so that a word costs about two steps at most, and always has half a context before it.

    Args:
        model: in evaluation mode.
        batch_size: the number of texts read side by side, B.
    """

    def __init__(self, model: TokenModel, batch_size: int) -> None:
        self.model = model
        self.context = model.core.context
        self.state: State = model.core.initial_state(batch_size)
        self.recent = torch.empty(0, batch_size, dtype=torch.long)  # the tokens behind the state

    @torch.inference_mode()
    def read(self, tokens: Tensor) -> Tensor:
        """Log-probabilities in nats of the word after each token: `[T, B]` → `[T, B, V]`."""
        if self.context is None:
            log_probs, self.state = self.model(tokens, self.state)
            return log_probs
        half = self.context // 2
        return torch.cat([self._read_within(chunk, half) for chunk in tokens.split(self.context - half)])

    def _read_within(self, tokens: Tensor, kept: int) -> Tensor:
        assert self.context is not None
        if len(self.recent) + len(tokens) > self.context:
            self.recent = self.recent[len(self.recent) - kept :]
            self.state = self.model.core.initial_state(tokens.size(1))
            if kept:
                _, self.state = self.model(self.recent, self.state)
        log_probs, self.state = self.model(tokens, self.state)
        self.recent = torch.cat([self.recent.to(tokens.device), tokens])
        return log_probs
