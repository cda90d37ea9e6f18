"""From token numbers to vectors."""

from torch import nn

from lm.checks import at_least


class TokenEmbedding(nn.Embedding):
    """A vector for each token, from uniform(-0.1, 0.1): `[T, B]` → `[T, B, E]`.

    Args:
        vocabulary_size: V.
        embedding_size: E.
    """

    def __init__(self, vocabulary_size: int, embedding_size: int) -> None:
        at_least(1, embedding_size=embedding_size)
        super().__init__(vocabulary_size, embedding_size)

    def reset_parameters(self) -> None:
        """Draw the vectors anew."""
        nn.init.uniform_(self.weight, -0.1, 0.1)
