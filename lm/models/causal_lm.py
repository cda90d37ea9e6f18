"""The model: tokens → embedding → core → head → log-probabilities, with the core's state passed in and returned."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from lm.config.checks import probability
from lm.models.core import Core
from lm.models.embedding import Embedding
from lm.models.heads import Head
from lm.models.state import State
from lm.ops import Dropout, make_dropout


@dataclass
class TrainingOutputs:
    """A training window's loss and what it was computed from, for regularisers.

    Attributes:
        hidden: the core's outputs, `[T, B, H]`.
        dropped: the same after dropout, as the head sees them.
        nll: the head's training loss in nats of each target, `[T, B]`.
        targets: `[T, B]`.
    """

    hidden: Tensor
    dropped: Tensor
    nll: Tensor
    targets: Tensor


class CausalLM(nn.Module):
    """A language model over token ids.

    Args:
        vocabulary_size: V.
        embedding: makes the embedding, given V.
        core: makes the core, given the embedding's size.
        head: makes the head, given the core's output size and the embedding (to tie its weights).
        output_dropout: the rate of dropout between core and head.
        locked_dropout: whether its mask is drawn once for all steps of a window (Gal and Ghahramani 2016).
        embedding_dropout: the rate at which words are dropped from a window, all their vectors at once (Gal and
            Ghahramani 2016); of the inputs only, tied weights or not.
    """

    def __init__(
        self,
        vocabulary_size: int,
        embedding: Callable[[int], Embedding],
        core: Callable[[int], Core],
        head: Callable[[int, Embedding], Head],
        output_dropout: float = 0.0,
        locked_dropout: bool = False,
        embedding_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        probability(output_dropout=output_dropout, embedding_dropout=embedding_dropout)
        self.embedding = embedding(vocabulary_size)
        self.core = core(self.embedding.embedding_dim)
        self.embedding_dropout = Dropout(embedding_dropout)
        self.output_dropout = make_dropout(output_dropout, locked_dropout)
        self.head = head(self.core.output_size, self.embedding)

    def forward(self, tokens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Log-probabilities in nats of the word after each token: `[T, B]` → `[T, B, V]`, and the next state."""
        hidden, state = self.hidden_states(tokens, state)
        return self.head.log_prob(self.output_dropout(hidden)), state

    def nll(self, tokens: Tensor, targets: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """The negative log-likelihood in nats of each target: `[T, B]`, `[T, B]` → `[T, B]`, and the next state."""
        hidden, state = self.hidden_states(tokens, state)
        return self.head.nll(self.output_dropout(hidden), targets), state

    def training_nll(
        self, tokens: Tensor, targets: Tensor, state: State | None = None
    ) -> tuple[TrainingOutputs, State]:
        """The head's training loss of each target, with what it was computed from, and the next state."""
        hidden, state = self.hidden_states(tokens, state)
        dropped = self.output_dropout(hidden)
        return TrainingOutputs(hidden, dropped, self.head.training_nll(dropped, targets), targets), state

    def hidden_states(self, tokens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """The core's outputs, before dropout and head: `[T, B]` → `[T, B, H]`, and the next state."""
        state = self.core.initial_state(tokens.size(1)) if state is None else state
        return self.core(self._embedded(tokens), state)

    def _embedded(self, tokens: Tensor) -> Tensor:
        """The vectors of the tokens, those of dropped words zero: `[T, B]` → `[T, B, E]`."""
        vectors = self.embedding(tokens)
        if not self.training or not self.embedding_dropout.p:
            return vectors
        scale = self.embedding_dropout(vectors.new_ones(self.embedding.num_embeddings))
        return vectors * scale[tokens][..., None]
