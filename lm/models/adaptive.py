"""Adaptive input and softmax: clusters of words by frequency, with wide vectors for frequent words, narrow for rare."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lm.config.checks import at_least
from lm.errors import UserError
from lm.models.embedding import Embedding
from lm.models.heads import Head, initialise, log_softmax, projection, tie
from lm.ops import IGNORE_INDEX, SHAPE_MULTIPLE, linear_cross_entropy


class AdaptiveEmbedding(nn.Module):
    """Narrower vectors for rarer words, each cluster mapped to E: `[T, B]` → `[T, B, E]` (Baevski and Auli 2019).

    Args:
        vocabulary_size: V; token ids are sorted by frequency, the most frequent first.
        embedding_size: E, the width of the first cluster's vectors.
        cutoffs: the first id of the second and each further cluster; those at V or beyond are ignored.
        div_value: each cluster's vectors are this many times narrower than the previous cluster's.
    """

    clusters: Sequence[nn.Embedding]

    def __init__(self, vocabulary_size: int, embedding_size: int, cutoffs: Sequence[int], div_value: float) -> None:
        super().__init__()
        at_least(1, embedding_size=embedding_size)
        self.num_embeddings, self.embedding_dim = vocabulary_size, embedding_size
        self.spans = cluster_spans(vocabulary_size, cutoffs, embedding_size, div_value)
        self.clusters = nn.ModuleList(nn.Embedding(span.end - span.start, span.width) for span in self.spans)  # type: ignore[assignment]
        self.projections = nn.ModuleList(nn.Linear(span.width, embedding_size, bias=False) for span in self.spans[1:])
        for cluster in self.clusters:
            nn.init.uniform_(cluster.weight, -0.1, 0.1)

    @property
    def tables(self) -> Sequence[Tensor]:
        return [cluster.weight for cluster in self.clusters]

    def forward(self, tokens: Tensor) -> Tensor:
        # every cluster maps every token: narrow products cost little, and DDP needs a gradient of every parameter
        vectors = self.clusters[0](tokens.clamp(max=self.spans[0].end - 1))
        for cluster, project, span in zip(self.clusters[1:], self.projections, self.spans[1:], strict=True):
            rare = project(cluster(tokens.clamp(span.start, span.end - 1) - span.start))
            vectors = torch.where((tokens >= span.start)[..., None], rare.to(vectors.dtype), vectors)
        return vectors


class AdaptiveHead(Head):
    """The adaptive softmax: exact, normalised, and cheap where most targets are frequent words (Grave et al. 2017).

    The first softmax is over the words of the first cluster and one entry per further cluster. The probability of a
    word in a further cluster is its cluster's probability times its own within the cluster, computed from a narrower
    projection of h. With tied weights the clusters' matrices are those of an AdaptiveEmbedding.

    Args:
        hidden_size: H, the size of the core's outputs.
        embedding: the model's embedding.
        tie_weights: whether the output matrices are the embedding's.
        cutoffs: see `AdaptiveEmbedding`.
        div_value: see `AdaptiveEmbedding`; here it narrows H, or E where the weights are tied.
    """

    clusters: Sequence[nn.Linear]

    def __init__(
        self, hidden_size: int, embedding: Embedding, tie_weights: bool, cutoffs: Sequence[int], div_value: float
    ) -> None:
        super().__init__()
        width = embedding.embedding_dim if tie_weights else hidden_size
        self.spans = cluster_spans(embedding.num_embeddings, cutoffs, width, div_value)
        self.projections = nn.ModuleList(projection(hidden_size, span.width) for span in self.spans)
        self.clusters = nn.ModuleList(nn.Linear(span.width, span.end - span.start) for span in self.spans)  # type: ignore[assignment]
        self.cluster_logits = nn.Linear(width, len(self.spans) - 1)
        initialise(*self.clusters, self.cluster_logits)
        if tie_weights:
            tie(self.clusters, embedding)

    def log_prob(self, hidden: Tensor) -> Tensor:
        first = log_softmax(F.linear(self.projections[0](hidden), *self._first_softmax()))
        frequent, clusters = first.split([self.spans[0].end, len(self.spans) - 1], dim=-1)
        parts = [frequent]
        for i in range(1, len(self.spans)):
            within = log_softmax(self.clusters[i](self.projections[i](hidden)))
            parts.append(clusters[..., i - 1 : i] + within)
        return torch.cat(parts, dim=-1)

    def nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        features, flat = hidden.flatten(0, 1), targets.flatten()
        # 1. the first softmax, in which a rare target is replaced by its cluster's entry
        entries = flat
        for i, span in enumerate(self.spans[1:]):
            entries = entries.where(flat < span.start, self.spans[0].end + i)
        nll = linear_cross_entropy(self.projections[0](features), *self._first_softmax(), entries)
        # 2. each further cluster, at the positions of its words; it takes part even without any, since DDP needs a
        # gradient of every parameter. Ids beyond the vocabulary go to the last one and raise an IndexError.
        for i, span in enumerate(self.spans[1:], start=1):
            in_cluster = (flat >= span.start) & ((flat < span.end) | (i == len(self.spans) - 1))
            rows = in_cluster.nonzero().squeeze(1)
            padding = (0, -len(rows) % SHAPE_MULTIPLE)
            ids = F.pad(flat[rows] - span.start, padding, value=IGNORE_INDEX)
            rows = F.pad(rows, padding)
            words = self.clusters[i]
            within = linear_cross_entropy(self.projections[i](features[rows]), words.weight, words.bias, ids)
            nll = nll.index_add(0, rows, within)
        return nll.view_as(targets)

    def _first_softmax(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the frequent words, then of the cluster entries."""
        parts = self.clusters[0], self.cluster_logits
        return torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts])


class Span(NamedTuple):
    """A cluster: token ids from `start` up to but excluding `end`, and the width of their vectors."""

    start: int
    end: int
    width: int


def cluster_spans(vocabulary_size: int, cutoffs: Sequence[int], width: int, div_value: float) -> list[Span]:
    """Split the ids 0 … V - 1 at the cutoffs; widths start at `width` and shrink, to no less than 1."""
    at_least(1, div_value=div_value)
    starts = [0, *cutoffs]
    if len(starts) == 1 or any(start >= end for start, end in pairwise(starts)):
        raise UserError(f"cutoffs={list(cutoffs)} given, but they must be one or more increasing numbers above 0.")
    if starts[1] >= vocabulary_size:
        raise UserError(
            f"cutoffs={list(cutoffs)} given, but the vocabulary has {vocabulary_size} words: "
            "let the first be less, or use model/head=softmax and model/embedding=full."
        )
    bounds = [*(start for start in starts if start < vocabulary_size), vocabulary_size]
    return [Span(*span, max(1, int(width / div_value**i))) for i, span in enumerate(pairwise(bounds))]
