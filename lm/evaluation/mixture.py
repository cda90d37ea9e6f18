"""Mixtures of models (Jelinek and Mercer 1980): p = Σ w_k p_k, the weights tuned on the validation split by EM."""

from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import zip_longest
from pathlib import Path

import torch
from torch import Tensor

from lm.errors import UserError
from lm.evaluation.evaluator import EvaluationResult, Evaluator
from lm.evaluation.scoring import Interpolation, TokenScores

NAME = "mixture"
TOLERANCE = 1e-6  # nats per token that the tuned weights may be from the best ones
MAX_ITERATIONS = 10_000


def check_same_tokens(first: Evaluator, other: Evaluator, split: str) -> None:
    """Check that two models predict the same tokens."""
    ours, theirs = (each.data.vocabulary.words if each.data.vocabulary else [] for each in (first, other))
    if ours != theirs:
        pairs = enumerate(zip_longest(ours, theirs))
        rank, words = next((rank, pair) for rank, pair in pairs if pair[0] != pair[1])
        raise UserError(
            f"ckpt=[{first.name},{other.name}] given, but their vocabularies, of {len(ours):,} and {len(theirs):,} "
            f"words, differ from word {rank} on, {words[0]!r} and {words[1]!r}: give models of one vocabulary."
        )
    if first.data.tokenize != other.data.tokenize:
        raise UserError(
            f"ckpt=[{first.name},{other.name}] given, but one of them was trained on tokenised text: give models that "
            "read it alike."
        )
    if first.data.title(split) != other.data.title(split):
        raise UserError(
            f"ckpt=[{first.name},{other.name}] given, but they were trained on data={first.data.name} and "
            f"data={other.data.name}: say which text to score by data=."
        )


def ensemble_title(ckpts: Sequence[Path]) -> str:
    """Part of file names: a digest of several checkpoints' paths."""
    digest = sha256("\n".join(str(path.resolve()) for path in ckpts).encode()).hexdigest()
    return f".mixture-{digest[:8]}" if len(ckpts) > 1 else ""


def mixtures(models: Sequence[Sequence[EvaluationResult]]) -> Iterator[EvaluationResult]:
    """The mixture of all models for each combination of methods; one without methods takes part in every mixture."""
    combinations = max(map(len, models))
    for components in zip(*(list(each) * (combinations // len(each)) for each in models), strict=True):
        yield mixture(components)


def mixture(components: Sequence[EvaluationResult]) -> EvaluationResult:
    """Mix the results of models on the same tokens."""
    first, scores = components[0], [each.scores for each in components]
    assert all(torch.equal(each.targets, first.scores.targets) for each in scores)
    tuning = [each.tuning_nll for each in components if each.tuning_nll is not None]
    weights = mixture_weights(_log_probs(tuning))
    log_probs = (weights.log()[:, None] + _log_probs([each.nll for each in components])).logsumexp(0)
    mixed = TokenScores(
        first.scores.targets,
        first.scores.positions,
        log_probs={1.0: log_probs},
        cache_probs={},
        seconds=sum(each.seconds for each in scores),
        complete=all(each.complete for each in scores),
    )
    named = {each.model or "model": weight for each, weight in zip(components, weights.tolist(), strict=True)}
    return EvaluationResult(first.methods, Interpolation(), first.dynamic, mixed, NAME, weights=named)


def mixture_weights(log_probs: Tensor) -> Tensor:
    """The weights `[K]` that maximise the mean of log Σ w_k p_k over tokens, from log-probabilities `[K, N]`.

    The log-likelihood is concave: it is within max_k mean(p_k / p) - 1 of its maximum, where EM stops.
    """
    # relative to the best model's, which changes no ratio
    probs = (log_probs - log_probs.amax(0)).exp()
    weights = torch.full_like(probs[:, 0], 1 / len(probs))
    for _ in range(MAX_ITERATIONS):
        ratios = probs @ (weights @ probs).reciprocal() / probs.size(1)
        weights = weights * ratios
        if ratios.max() - 1 < TOLERANCE:
            break
    return weights


def _log_probs(nlls: Sequence[Tensor]) -> Tensor:
    """Log-probabilities `[K, N]` in fp64; that of a model that diverged is next to nothing."""
    return -torch.stack(list(nlls)).double().nan_to_num(nan=1e4, posinf=1e4)
