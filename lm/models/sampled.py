"""A sampled softmax: trained on the frequent words and a sample of the others, evaluated as the full softmax."""

from functools import cached_property

import torch
from torch import Tensor, distributed, nn

from lm.config.checks import at_least
from lm.models.embedding import Embedding
from lm.models.heads import SoftmaxHead
from lm.ops import IGNORE_INDEX, SHAPE_MULTIPLE, linear_cross_entropy, select_rows

EXCLUDED = -1e4  # added to a logit, it leaves no probability and no gradient, in 16 bits too


class CandidateSampler:
    """Estimates the partition function by importance sampling, over candidate words that a training window shares.

    The candidates of a window are its targets, the most frequent words, and a sample of the others, drawn again for
    each window. A sampled word's logit is corrected by -log π, its inclusion probability, so that the sum of the
    candidates' exponentials is an unbiased estimate of the partition function (Bengio and Senécal 2003; Jean et al.
    2015).

    Args:
        vocabulary_size: V.
        num_frequent: the number of the most frequent words, which are always candidates.
        num_sampled: the number of words sampled from the others; where there are no more, the loss is exact.
    """

    def __init__(self, vocabulary_size: int, num_frequent: int, num_sampled: int) -> None:
        at_least(1, num_frequent=num_frequent, num_sampled=num_sampled)
        self.vocabulary_size, self.num_frequent, self.num_sampled = vocabulary_size, num_frequent, num_sampled

    @cached_property
    def inclusion(self) -> Tensor:
        """The words' inclusion probabilities, `[V]`; no buffer, which would follow the model to 16 bits."""
        return inclusion_probabilities(self.vocabulary_size, self.num_frequent, self.num_sampled)

    def layer(self, decoder: nn.Linear, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The candidates' weights `[C, E]` and corrected biases `[C]`, and the targets' rows in them: `[N]` → `[N]`."""
        words, corrections = self.candidates(targets)
        rows = torch.searchsorted(words, targets).where(targets != IGNORE_INDEX, IGNORE_INDEX)
        bias = select_rows(decoder.bias, words) + corrections.to(decoder.bias.dtype)
        return select_rows(decoder.weight, words), bias, rows

    def candidates(self, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The distinct words of a training window, ascending, and their logits' corrections: `[N]` → `[C]`, `[C]`.

        Targets are included with certainty and need no correction.
        """
        inclusion = self.inclusion.to(targets.device)
        sampled = systematic_sample(inclusion, shared_uniform(targets.device))
        corrections = torch.full_like(inclusion, EXCLUDED)
        corrections[sampled] = -inclusion[sampled].log()
        corrections[targets[targets != IGNORE_INDEX]] = 0
        included = corrections > EXCLUDED
        padding = -int(included.sum()) % SHAPE_MULTIPLE
        included[(~included).nonzero()[:padding]] = True
        words = included.nonzero().squeeze(1)
        return words, corrections[words]


class SampledHead(SoftmaxHead):
    """The full softmax, trained with a partition function that a CandidateSampler estimates.

    `log_prob`, `nll`, and the loss in evaluation mode are exact.

    Args:
        hidden_size: see `SoftmaxHead`.
        embedding: see `SoftmaxHead`.
        tie_weights: see `SoftmaxHead`.
        num_frequent: see `CandidateSampler`.
        num_sampled: see `CandidateSampler`.
    """

    def __init__(
        self, hidden_size: int, embedding: Embedding, tie_weights: bool, num_frequent: int, num_sampled: int
    ) -> None:
        super().__init__(hidden_size, embedding, tie_weights)
        self.sampler = CandidateSampler(embedding.num_embeddings, num_frequent, num_sampled)

    def training_nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        if not self.training:
            return self.nll(hidden, targets)
        features = self.projection(hidden).flatten(0, 1)
        weight, bias, rows = self.sampler.layer(self.decoder, targets.flatten())
        return linear_cross_entropy(features, weight, bias, rows).view_as(targets)


def inclusion_probabilities(vocabulary_size: int, num_frequent: int, num_sampled: int) -> Tensor:
    """The probability of each word to be a candidate, `[V]` in fp64; they sum to the number of words sampled.

    It is one for the frequent words. For the others it is proportional to 1 / rank (Zipf's law), but at most one: of
    the scales that are due when the first k of them have probability one, the right one is the largest.
    """
    num_frequent = min(num_frequent, vocabulary_size - 1)
    num_sampled = min(num_sampled, vocabulary_size - num_frequent)
    mass = 1 / torch.arange(1, vocabulary_size + 1, dtype=torch.float64)
    mass_from = mass.flip(0).cumsum(0).flip(0)[num_frequent:]  # of each word of the tail and all rarer ones
    scale = (torch.arange(num_sampled, 0, -1) / mass_from[:num_sampled]).amax()
    mass[num_frequent:] *= scale
    mass[:num_frequent] = 1
    return mass.clamp_(max=1)


def systematic_sample(inclusion: Tensor, uniform: Tensor) -> Tensor:
    """Distinct words, ascending, each with its inclusion probability (Madow 1949): `[V]`, `[]` → `[sum of inclusion]`.

    On a line on which each word's interval is as long as its probability, they are those at u, u + 1, u + 2, …
    """
    ends = inclusion.cumsum(0)
    points = uniform + torch.arange(round(ends[-1].item()), device=ends.device)
    return torch.searchsorted(ends, points, right=True).clamp_(max=len(ends) - 1)  # the last end is rounded


def shared_uniform(device: torch.device) -> Tensor:
    """A uniform random number in fp64, the same on every rank, from torch's global generator: `[]`."""
    uniform = torch.rand((), dtype=torch.float64).to(device)
    if distributed.is_available() and distributed.is_initialized():
        distributed.broadcast(uniform, src=0)
    return uniform
