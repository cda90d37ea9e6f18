"""Mixture of softmaxes: a distribution whose logits have a higher rank than the output matrix."""

from functools import reduce

import torch
from torch import Tensor, nn

from lm.config.checks import at_least, probability
from lm.models.embedding import Embedding
from lm.models.heads import Head, initialise, log_softmax, tie
from lm.models.sampled import CandidateSampler
from lm.ops import IGNORE_INDEX, linear, linear_cross_entropy, make_dropout


class MixtureHead(Head):
    """The mixture of softmaxes: p = Σ_k π_k softmax(W tanh(U_k h + c_k) + b) with π = softmax(P h) (Yang et al. 2018).

    The K experts share the output layer W, b; their latent vectors tanh(U_k h + c_k) are as wide as the embedding.

    Args:
        hidden_size: H, the size of the core's outputs.
        embedding: the model's embedding.
        tie_weights: whether W is the embedding's matrix.
        num_experts: K.
        latent_dropout: the dropout probability of the latent vectors.
        locked_dropout: whether its mask is drawn once for all steps of a window, as in the paper.
        num_frequent: see `lm.models.sampled.CandidateSampler`.
        num_sampled: see there; None trains with the exact loss.
    """

    def __init__(
        self,
        hidden_size: int,
        embedding: Embedding,
        tie_weights: bool,
        num_experts: int,
        latent_dropout: float,
        locked_dropout: bool = True,
        num_frequent: int = 1500,
        num_sampled: int | None = None,
    ) -> None:
        super().__init__()
        at_least(1, num_experts=num_experts)
        probability(latent_dropout=latent_dropout)
        width = embedding.embedding_dim
        self.num_experts = num_experts
        self.latent = nn.Linear(hidden_size, num_experts * width)
        self.latent_dropout = make_dropout(latent_dropout, locked_dropout)
        self.prior = nn.Linear(hidden_size, num_experts, bias=False)
        self.decoder = nn.Linear(width, embedding.num_embeddings)
        initialise(self.decoder)
        if tie_weights:
            tie([self.decoder], embedding)
        self.sampler = (
            None if num_sampled is None else CandidateSampler(embedding.num_embeddings, num_frequent, num_sampled)
        )

    def log_prob(self, hidden: Tensor) -> Tensor:
        latents, log_priors = self.experts(hidden)
        layer = self.decoder.weight, self.decoder.bias
        experts = zip(latents, log_priors.unsqueeze(-1), strict=True)
        return reduce(torch.logaddexp, (prior + log_softmax(linear(latent, *layer)) for latent, prior in experts))

    def nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        return self._nll(hidden, self.decoder.weight, self.decoder.bias, targets.flatten()).view_as(targets)

    def training_nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """With a sampler, each expert's partition function is estimated from the same candidates."""
        if not self.training or not self.sampler:
            return self.nll(hidden, targets)
        return self._nll(hidden, *self.sampler.layer(self.decoder, targets.flatten())).view_as(targets)

    def experts(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """The latent vectors and the log mixture weights: `[T, B, H]` → `[K, T, B, E]`, `[K, T, B]`."""
        latents = self.latent_dropout(self.latent(hidden).tanh())
        log_priors = log_softmax(self.prior(hidden))
        return latents.unflatten(-1, (self.num_experts, -1)).movedim(-2, 0), log_priors.movedim(-1, 0)

    def _nll(self, hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
        """-log Σ_k exp(log π_k - nll_k), from each expert's nll of the targets: `[T, B, H]`, `[N]` → `[N]`."""
        latents, log_priors = self.experts(hidden)
        nlls = [linear_cross_entropy(latent, weight, bias, targets) for latent in latents.flatten(1, 2)]
        nll = -(log_priors.flatten(1, 2) - torch.stack(nlls)).logsumexp(0)
        return nll.where(targets != IGNORE_INDEX, 0)
