"""From token ids to vectors."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn

from lm.config.checks import at_least


class Embedding(Protocol):
    """The interface of every embedding.

    Attributes:
        num_embeddings: V.
        embedding_dim: E.
    """

    num_embeddings: int
    embedding_dim: int

    @property
    def tables(self) -> Sequence[Tensor]:
        """The matrices that a head may tie: one for all tokens, or one per cluster."""

    def __call__(self, tokens: Tensor) -> Tensor:
        """Look up vectors: `[T, B]` → `[T, B, E]`."""


class TokenEmbedding(nn.Embedding):
    """A vector for each token, from uniform(-0.1, 0.1): `[T, B]` → `[T, B, E]`.

    Args:
        vocabulary_size: V.
        embedding_size: E.
        pretrained: a file of word vectors to start training from; see `lm.data.word_vectors.load_vectors`.
    """

    def __init__(self, vocabulary_size: int, embedding_size: int, pretrained: str | None = None) -> None:
        at_least(1, embedding_size=embedding_size)
        super().__init__(vocabulary_size, embedding_size)
        self.pretrained = pretrained

    @property
    def tables(self) -> Sequence[Tensor]:
        return [self.weight]

    def reset_parameters(self) -> None:
        nn.init.uniform_(self.weight, -0.1, 0.1)
