"""Bands of words by frequency: the frequent ones get wide vectors, the many rare ones narrow ones."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lm.config.checks import at_least
from lm.errors import UserError
from lm.models.embedding import Embedding
from lm.models.heads import Head, log_softmax
from lm.ops import IGNORE_INDEX, linear_cross_entropy

ROWS = 64  # a band's positions are filled up to a multiple: a CPU's library prepares itself for each size anew


class AdaptiveEmbedding(nn.Module):
    """Narrower vectors for rarer words, each band mapped to E: `[T, B]` → `[T, B, E]` (Baevski and Auli 2019).

    Args:
        vocabulary_size: V; words are numbered by frequency, the most frequent first.
        embedding_size: E, the width of the first band's vectors.
        cutoffs: where the second and each further band begins; those at V or beyond are left out.
        div_value: each band's vectors are this many times narrower than those of the band before.

    Raises:
        UserError: if a value is out of range.
    """

    bands: Sequence[nn.Embedding]

    def __init__(self, vocabulary_size: int, embedding_size: int, cutoffs: Sequence[int], div_value: float) -> None:
        super().__init__()
        at_least(1, embedding_size=embedding_size)
        self.num_embeddings, self.embedding_dim = vocabulary_size, embedding_size
        self.limits = band_limits(vocabulary_size, cutoffs)
        widths = band_widths(embedding_size, len(self.limits) - 1, div_value)
        sizes = [end - start for start, end in pairwise(self.limits)]
        self.bands = nn.ModuleList(nn.Embedding(size, width) for size, width in zip(sizes, widths, strict=True))  # type: ignore[assignment]
        self.projections = nn.ModuleList(nn.Linear(width, embedding_size, bias=False) for width in widths[1:])
        for band in self.bands:
            nn.init.uniform_(band.weight, -0.1, 0.1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Look the words up, each in its band."""
        # every band maps every token: narrow products cost little, and DDP asks for a gradient of every parameter
        vectors = self.bands[0](tokens.clamp(max=self.limits[1] - 1))
        tails = zip(self.bands[1:], self.projections, pairwise(self.limits[1:]), strict=True)
        for band, projection, (start, end) in tails:
            within = projection(band(tokens.clamp(start, end - 1) - start))
            vectors = torch.where((tokens >= start)[..., None], within.to(vectors.dtype), vectors)
        return vectors


class AdaptiveHead(Head):
    """The adaptive softmax: exact, normalised, and cheap where most targets are frequent words (Grave et al. 2017).

    A first softmax is over the words of the first band and one entry for each further band; a word of a further band
    has the product of its band's probability and of its own within the band, which looks at a narrower projection
    of h. With tied weights the bands' matrices are those of an AdaptiveEmbedding.

    Args:
        hidden_size: H, the size of the core's outputs.
        embedding: the model's embedding.
        tie_weights: whether the output matrices are the embedding's.
        cutoffs: see `AdaptiveEmbedding`.
        div_value: see `AdaptiveEmbedding`; here it narrows H, or E where the weights are tied.

    Raises:
        UserError: if a value is out of range, or the weights are to be tied to an embedding of other bands.
    """

    words: Sequence[nn.Linear]

    def __init__(
        self, hidden_size: int, embedding: Embedding, tie_weights: bool, cutoffs: Sequence[int], div_value: float
    ) -> None:
        super().__init__()
        self.limits = band_limits(embedding.num_embeddings, cutoffs)
        widths = band_widths(embedding.embedding_dim if tie_weights else hidden_size, len(self.limits) - 1, div_value)
        sizes = [end - start for start, end in pairwise(self.limits)]
        self.projections = nn.ModuleList(
            nn.Identity() if width == hidden_size else nn.Linear(hidden_size, width, bias=False) for width in widths
        )
        self.words = nn.ModuleList(nn.Linear(width, size) for width, size in zip(widths, sizes, strict=True))  # type: ignore[assignment]
        self.tails = nn.Linear(widths[0], len(widths) - 1)
        for linear in (*self.words, self.tails):
            nn.init.uniform_(linear.weight, -0.1, 0.1)
            nn.init.zeros_(linear.bias)
        if tie_weights:
            self._tie(embedding)

    def log_prob(self, hidden: Tensor) -> Tensor:
        """The log-probability in nats of every word: `[T, B, H]` → `[T, B, V]`."""
        first = log_softmax(F.linear(self.projections[0](hidden), *self._first()))
        frequent, tails = first.split([self.limits[1], len(self.words) - 1], dim=-1)
        parts = [frequent]
        for band in range(1, len(self.words)):
            within = log_softmax(self.words[band](self.projections[band](hidden)))
            parts.append(tails[..., band - 1 : band] + within)
        return torch.cat(parts, dim=-1)

    def nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """The negative log-likelihood in nats of the targets: `[T, B, H]`, `[T, B]` → `[T, B]`."""
        features, flat = hidden.flatten(0, 1), targets.flatten()
        entries = flat
        for band, start in enumerate(self.limits[1:-1]):
            entries = entries.where(flat < start, self.limits[1] + band)
        nll = linear_cross_entropy(self.projections[0](features), *self._first(), entries)
        for band, (start, end) in enumerate(pairwise(self.limits[1:]), start=1):
            # a band without a word here still takes part, with no rows: DDP asks for a gradient of every parameter
            is_last = band == len(self.words) - 1  # which sees numbers beyond the vocabulary, too, and refuses them
            rows = ((flat >= start) & (is_last | (flat < end))).nonzero().squeeze(1)
            rows, ids = (
                F.pad(rows, (0, -len(rows) % ROWS)),
                F.pad(flat[rows] - start, (0, -len(rows) % ROWS), value=IGNORE_INDEX),
            )
            words = self.words[band]
            within = linear_cross_entropy(self.projections[band](features[rows]), words.weight, words.bias, ids)
            nll = nll.index_add(0, rows, within)
        return nll.view_as(targets)

    def _first(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the first softmax: the frequent words, then the further bands."""
        parts = self.words[0], self.tails
        return torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts])

    def _tie(self, embedding: Embedding) -> None:
        if not isinstance(embedding, AdaptiveEmbedding):
            raise UserError("tie_weights=true needs an embedding of the same bands: set model/embedding=adaptive.")
        shapes, theirs = ([part.weight.shape for part in parts] for parts in (self.words, embedding.bands))
        if shapes != theirs:
            raise UserError(
                f"tie_weights=true needs the same bands in both, but the head's matrices are {_sizes(shapes)} and the "
                f"embedding's {_sizes(theirs)}: give both the same cutoffs and div_value."
            )
        for words, band in zip(self.words, embedding.bands, strict=True):
            words.weight = band.weight


def band_limits(vocabulary_size: int, cutoffs: Sequence[int]) -> list[int]:
    """Where each band begins, and where the last one ends: [0, …, V].

    Raises:
        UserError: if the cutoffs do not rise from 1 on, or leave all words in one band.
    """
    limits = [0, *cutoffs]
    if len(limits) == 1 or any(start >= end for start, end in pairwise(limits)):
        raise UserError(f"cutoffs={list(cutoffs)} given, but they must be one or more rising numbers above 0.")
    if limits[1] >= vocabulary_size:
        raise UserError(
            f"cutoffs={list(cutoffs)} given, but the vocabulary has {vocabulary_size} words: "
            "let the first be less, or use model/head=softmax and model/embedding=full."
        )
    return [*(limit for limit in limits if limit < vocabulary_size), vocabulary_size]


def band_widths(width: int, bands: int, div_value: float) -> list[int]:
    """The width of each band's vectors: at least 1.

    Raises:
        UserError: if `div_value` is below 1.
    """
    at_least(1, div_value=div_value)
    return [max(1, int(width / div_value**band)) for band in range(bands)]


def _sizes(shapes: list[torch.Size]) -> str:
    return ", ".join("×".join(map(str, shape)) for shape in shapes)
