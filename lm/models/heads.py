"""From a core's outputs to log-probabilities, through two doors: all of them, or only the targets' loss."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lm.errors import UserError
from lm.models.embedding import Embedding
from lm.ops import linear, linear_cross_entropy


class Head(nn.Module, ABC):
    """Maps a core's outputs to normalised log-probabilities; both doors agree to rounding."""

    @abstractmethod
    def log_prob(self, hidden: Tensor) -> Tensor:
        """The log-probability in nats of every word: `[T, B, H]` → `[T, B, V]`."""

    @abstractmethod
    def nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """The negative log-likelihood in nats of the targets: `[T, B, H]`, `[T, B]` → `[T, B]`.

        Zero where the target is `lm.ops.IGNORE_INDEX`.
        """


class SoftmaxHead(Head):
    """The full softmax: log_softmax(W h + b).

    With tied weights W is the embedding's matrix (Press and Wolf 2017; Inan et al. 2017); where H and E differ,
    a projection without bias maps h to E first.

    Args:
        hidden_size: H, the size of the core's outputs.
        embedding: the model's embedding.
        tie_weights: whether W is the embedding's matrix.
        project: whether tied weights may use a projection; False demands H = E.

    Raises:
        UserError: if the weights are to be tied and the embedding is not one matrix, or the sizes differ and
            `project` is False.
    """

    def __init__(self, hidden_size: int, embedding: Embedding, tie_weights: bool, project: bool = True) -> None:
        super().__init__()
        vocabulary_size, embedding_size = embedding.num_embeddings, embedding.embedding_dim
        needs_projection = tie_weights and hidden_size != embedding_size
        if needs_projection and not project:
            raise UserError(
                f"tie_weights=true needs hidden_size ({hidden_size}) = embedding_size ({embedding_size}): "
                "make them equal, or set model.head.project=true."
            )
        self.projection = nn.Linear(hidden_size, embedding_size, bias=False) if needs_projection else nn.Identity()
        self.decoder = nn.Linear(embedding_size if tie_weights else hidden_size, vocabulary_size)
        nn.init.uniform_(self.decoder.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)
        if tie_weights:
            if not isinstance(embedding, nn.Embedding):
                raise UserError(
                    "tie_weights=true given, but this embedding is not one matrix for all words: "
                    "use model/head=adaptive, or model/embedding=full."
                )
            self.decoder.weight = embedding.weight

    def log_prob(self, hidden: Tensor) -> Tensor:
        """The log-probability in nats of every word: `[T, B, H]` → `[T, B, V]`."""
        return log_softmax(linear(self.projection(hidden), self.decoder.weight, self.decoder.bias))

    def nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """The negative log-likelihood in nats of the targets: `[T, B, H]`, `[T, B]` → `[T, B]`."""
        features = self.projection(hidden).flatten(0, 1)
        return linear_cross_entropy(features, self.decoder.weight, self.decoder.bias, targets.flatten()).view_as(
            targets
        )


def log_softmax(logits: Tensor) -> Tensor:
    """Log-probabilities in fp32 at least, which CPU autocast does not see to: `[…, V]` → `[…, V]`."""
    return F.log_softmax(logits, dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))
