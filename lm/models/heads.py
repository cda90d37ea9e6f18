"""From a core's outputs to log-probabilities, by two methods: of the whole vocabulary, or of the targets only."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lm.errors import UserError
from lm.models.embedding import Embedding
from lm.ops import linear, linear_cross_entropy


class Head(nn.Module, ABC):
    """Maps a core's outputs to normalised log-probabilities; both methods agree up to rounding."""

    @abstractmethod
    def log_prob(self, hidden: Tensor) -> Tensor:
        """The log-probability in nats of every word: `[T, B, H]` → `[T, B, V]`."""

    @abstractmethod
    def nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """The negative log-likelihood in nats of the targets: `[T, B, H]`, `[T, B]` → `[T, B]`.

        Zero where the target is `lm.ops.IGNORE_INDEX`.
        """

    def training_nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """The training loss, shaped as `nll`; override it for a cheaper surrogate, such as a sampled softmax."""
        return self.nll(hidden, targets)

    def logit_layer(self, hidden: Tensor) -> tuple[Tensor, nn.Linear]:
        """The features `[T, B, E]` of the outputs, and the layer that maps them to the logits of a single softmax."""
        raise UserError(
            f"{type(self).__name__} given, but label smoothing and z-loss need a single softmax over all words: use "
            "model/head=softmax or model/head=sampled, or leave out these regularizers."
        )


class SoftmaxHead(Head):
    """The full softmax: log_softmax(W h + b).

    With tied weights W is the embedding's matrix (Press and Wolf 2017; Inan et al. 2017); where H and E differ,
    a projection without bias maps h to E first.

    Args:
        hidden_size: H, the size of the core's outputs.
        embedding: the model's embedding.
        tie_weights: whether W is the embedding's matrix.
    """

    def __init__(self, hidden_size: int, embedding: Embedding, tie_weights: bool) -> None:
        super().__init__()
        width = embedding.embedding_dim if tie_weights else hidden_size
        self.projection = projection(hidden_size, width)
        self.decoder = nn.Linear(width, embedding.num_embeddings)
        initialise(self.decoder)
        if tie_weights:
            tie([self.decoder], embedding)

    def log_prob(self, hidden: Tensor) -> Tensor:
        return log_softmax(linear(self.projection(hidden), self.decoder.weight, self.decoder.bias))

    def nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        features = self.projection(hidden).flatten(0, 1)
        nll = linear_cross_entropy(features, self.decoder.weight, self.decoder.bias, targets.flatten())
        return nll.view_as(targets)

    def logit_layer(self, hidden: Tensor) -> tuple[Tensor, nn.Linear]:
        return self.projection(hidden), self.decoder


def projection(hidden_size: int, width: int) -> nn.Module:
    """A linear map without bias, `[…, H]` → `[…, width]`, where the sizes differ."""
    return nn.Identity() if width == hidden_size else nn.Linear(hidden_size, width, bias=False)


def initialise(*linears: nn.Linear) -> None:
    """Draw the weights of output layers from uniform(-0.1, 0.1); their biases are zero."""
    for each in linears:
        nn.init.uniform_(each.weight, -0.1, 0.1)
        nn.init.zeros_(each.bias)


def tie(linears: Sequence[nn.Linear], embedding: Embedding) -> None:
    """Tie output layers to the embedding's matrices."""
    ours, theirs = [each.weight.shape for each in linears], [table.shape for table in embedding.tables]
    if ours != theirs:
        raise UserError(
            f"tie_weights=true given, but the head's matrices are {_sizes(ours)} and the embedding's {_sizes(theirs)}: "
            "use model/head=softmax with model/embedding=full, or model/head=adaptive with model/embedding=adaptive "
            "and the same cutoffs and div_value."
        )
    for each, table in zip(linears, embedding.tables, strict=True):
        each.weight = table


def log_softmax(logits: Tensor) -> Tensor:
    """Log-probabilities in at least fp32, to which CPU autocast does not promote: `[…, V]` → `[…, V]`."""
    return F.log_softmax(logits, dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))


def _sizes(shapes: list[torch.Size]) -> str:
    return ", ".join("×".join(map(str, shape)) for shape in shapes)
