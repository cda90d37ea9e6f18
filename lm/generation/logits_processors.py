"""Changes to the next word's log-probabilities before it is chosen."""

import math

import torch
from torch import Tensor

from lm.generation.config import GenerationConfig


def process_log_probs(log_probs: Tensor, history: Tensor, config: GenerationConfig, unk_id: int) -> Tensor:
    """Scores of the next word from its log-probabilities `[B, V]`, after the words `[B, T]`; -inf excludes a word."""
    if config.repetition_penalty != 1:
        log_probs = log_probs.scatter(1, history, log_probs.gather(1, history) * config.repetition_penalty)
    if not config.allow_unk:
        log_probs = log_probs.index_fill(1, torch.tensor([unk_id], device=log_probs.device), -math.inf)
    if config.no_repeat_ngram_size is not None and history.size(1) >= config.no_repeat_ngram_size:
        log_probs = rule_out_repeated_ngrams(log_probs, history, config.no_repeat_ngram_size)
    return log_probs


def rule_out_repeated_ngrams(log_probs: Tensor, history: Tensor, size: int) -> Tensor:
    """Rule out the words that would complete an n-gram already in the history `[B, T]`: `[B, V]` → `[B, V]`."""
    ngrams = history.unfold(1, size, 1)  # [B, T - size + 1, size]
    prefix = history[:, None, history.size(1) - size + 1 :]  # [B, 1, size - 1], which the next word completes
    repeats = (ngrams[..., :-1] == prefix).all(-1).to(torch.int8)
    ruled_out = torch.zeros_like(log_probs, dtype=torch.int8).scatter_reduce(1, ngrams[..., -1], repeats, "amax")
    return log_probs.masked_fill(ruled_out.bool(), -math.inf)


def all_ruled_out(scores: Tensor) -> Tensor:
    """Whether all next words are ruled out, by their scores `[B, V]`: `[B]`."""
    return scores.amax(1) == -math.inf
