"""Sampling: draw texts from the model's distribution, word by word, several in parallel."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from lm.data.vocabulary import Vocabulary
from lm.generation.config import GenerationConfig
from lm.generation.incremental import IncrementalDecoder
from lm.generation.logits_processors import all_ruled_out, process_log_probs
from lm.generation.stopping_criteria import StoppingCriteria
from lm.models import CausalLM

BLOCK = 256  # words summed together when one is drawn
FINISHED = -1  # instead of a token id, for a finished sample while others continue


def generate_ids(model: CausalLM, prompt: Tensor, config: GenerationConfig, vocabulary: Vocabulary) -> Iterator[Tensor]:
    """Yield the next token id of every sample, `[num_samples]`, or FINISHED, until all samples are finished.

    All begin with the token ids `prompt`, `[T]`, the first of which (`<eos>`) is only context. Each has its
    own random generator: the second sample of `seed=7` is the first one of `seed=8`.
    """
    criteria = StoppingCriteria(config, vocabulary)
    uses_history = criteria.limits or config.repetition_penalty != 1 or config.no_repeat_ngram_size is not None
    decoder = IncrementalDecoder.prefill(model, prompt[:-1], config.num_samples)
    history = prompt.expand(config.num_samples, -1)  # [B, T]
    tokens = history[:, -1:]
    finished = torch.zeros(config.num_samples, dtype=torch.bool, device=prompt.device)
    for _, uniform in zip(range(config.max_words), uniform_numbers(config), strict=False):
        log_probs = decoder.decode(tokens.T)[-1]
        scores = process_log_probs(log_probs, history[:, 1:], config, vocabulary.unk_id)
        if scores is not log_probs and (exhausted := all_ruled_out(scores)).any():
            finished |= exhausted
            scores = scores.masked_fill(exhausted[:, None], 0)  # draw any word: it is discarded
        if finished.all():
            return
        tokens = sample(scores, uniform.to(scores.device), config)[:, None]
        yield tokens.squeeze(1).where(~finished, FINISHED)
        if uses_history:
            history = torch.cat([history, tokens], dim=1)
            finished |= criteria.are_met(history[:, len(prompt) :])


def uniform_numbers(config: GenerationConfig) -> Iterator[Tensor]:
    """Yield random numbers uniform in [0, 1), one from each sample's generator, `[num_samples]`, without end."""
    generators = [torch.Generator() for _ in range(config.num_samples)]
    for i, generator in enumerate(generators):
        generator.manual_seed((config.seed + i) % 2**64) if config.seed is not None else generator.seed()
    while True:  # draw many at a time, since each call costs more than a number
        numbers = [torch.rand(128, dtype=torch.float64, generator=generator) for generator in generators]
        yield from torch.stack(numbers, dim=1)


def sample(log_probs: Tensor, uniform: Tensor, config: GenerationConfig) -> Tensor:
    """Draw a token id for each row of `[B, V]`, with random numbers `[B]` uniform in [0, 1): `[B]`.

    Temperature, truncation, then inverse transform sampling, with one random number per row; torch.multinomial takes V.
    """
    scores = log_probs.float()
    if config.temperature != 1:
        # below the smallest normal number the most probable word's score would be 0 / 0
        temperature = max(config.temperature, torch.finfo(scores.dtype).tiny)
        scores = (scores - scores.amax(-1, keepdim=True)).div_(temperature)
    scores, ids = truncate(scores, config)
    # find the block of words that the number falls into, then the word: most words' cumulative sums are not needed
    probs = scores.softmax(-1)
    size, whole = probs.size(-1), probs.size(-1) // BLOCK
    sums = probs[:, : whole * BLOCK].unflatten(-1, (whole, BLOCK)).sum(-1)
    sums = torch.cat([sums, probs[:, whole * BLOCK :].sum(-1, keepdim=True)], dim=-1)
    block, remainder = search(sums, uniform[:, None] * sums.sum(-1, keepdim=True))
    words = block * BLOCK + torch.arange(BLOCK, device=probs.device)
    word, _ = search(probs.gather(-1, words.clamp(max=size - 1)).where(words < size, 0), remainder)
    index = words.gather(-1, word)
    return (index if ids is None else ids.gather(-1, index)).squeeze(-1)


def search(weights: Tensor, point: Tensor) -> tuple[Tensor, Tensor]:
    """Where a point falls on a line of intervals as long as the weights: `[B, K]`, `[B, 1]` → `[B, 1]` each.

    Returns an interval's index, and how far into it the point is. An interval of length 0 is never found, also where
    rounding has moved the point beyond either end.
    """
    ends = weights.cumsum(-1, dtype=torch.float64)  # in fp32 the rarest words would underflow next to 1
    total = ends[:, -1:]
    point = torch.minimum(point.clamp(min=0), total.nextafter(torch.zeros_like(total)))
    index = torch.searchsorted(ends, point, right=True)
    return index, point - (ends.gather(-1, index) - weights.gather(-1, index))


def truncate(scores: Tensor, config: GenerationConfig) -> tuple[Tensor, Tensor | None]:
    """Truncate the distribution by top-k, then top-p, then min-p.

    Takes unnormalised log-probabilities `[B, V]`; returns the remaining ones `[B, K]`, -inf
    for excluded words, and their token ids `[B, K]`, or None for the ids 0 … V - 1.
    """
    ids = None
    k = min(config.top_k or scores.size(-1), scores.size(-1))
    if config.top_p is not None or k < scores.size(-1):
        scores, ids = scores.topk(k)  # sorted, the most probable first
    if config.top_p is not None:  # nucleus sampling: words whose predecessors sum to less than top_p
        probs = scores.softmax(-1)
        probability_before = probs.cumsum(-1) - probs
        scores = scores.masked_fill(probability_before >= config.top_p, -math.inf)
    if config.min_p is not None:
        scores = scores.masked_fill(scores < scores.amax(-1, keepdim=True) + math.log(config.min_p), -math.inf)
    return scores, ids
