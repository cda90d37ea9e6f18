"""Beam search: the likeliest texts that a beam of a given width finds."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from lm.data.vocabulary import Vocabulary
from lm.generation.config import GenerationConfig
from lm.generation.incremental import IncrementalDecoder
from lm.generation.logits_processors import all_ruled_out, process_log_probs
from lm.generation.stopping_criteria import StoppingCriterion, is_finished, stopping_criteria
from lm.models import CausalLM


class Hypothesis(NamedTuple):
    """The token ids of a text after the prompt, `[T]`, and its log-probability in nats."""

    ids: Tensor
    log_prob: float


class Beams(NamedTuple):
    """The state of a search."""

    ids: Tensor  # unfinished texts with their prompt, [B, T], likeliest first
    log_probs: Tensor  # [B], in nats
    finished: list[Hypothesis]  # the num_beams best of them, best first


@torch.no_grad()
def beam_search(
    model: CausalLM,
    prompt: Tensor,
    config: GenerationConfig,
    vocabulary: Vocabulary,
    interruptible: AbstractContextManager[object] | None = None,
) -> list[Hypothesis]:
    """The best `num_samples` texts found, best first.

    Args:
        model: in evaluation mode.
        prompt: token ids that all texts begin with, `[T]`; the first one, the context of the first word, is not part of
            the text.
        config: of it `num_beams`, `length_penalty`, and what limits the texts.
        vocabulary: of the model.
        interruptible: suppresses exceptions that are to end the search early, with the best texts so far.
    """
    criteria = stopping_criteria(config, vocabulary)
    beams = Beams(prompt[None], torch.zeros(1, dtype=torch.float64, device=prompt.device), [])
    with interruptible or nullcontext():
        decoder = IncrementalDecoder.prefill(model, prompt[:-1], 1)
        for _ in range(config.max_words):
            beams = _step(beams, decoder, config, vocabulary, criteria, len(prompt))
            if not len(beams.ids) or _cannot_improve(beams, config):
                break
    unfinished = _hypotheses(beams.ids, beams.log_probs, len(prompt))
    return _best([*beams.finished, *unfinished], config)[: config.num_samples]


def normalized(log_prob: float, length: int, config: GenerationConfig) -> float:
    """A text's log-probability over its length penalty ((5 + T) / 6)^α (Wu et al. 2016): what texts are compared by."""
    return log_prob / ((5 + length) / 6) ** config.length_penalty


def _step(
    beams: Beams,
    decoder: IncrementalDecoder,
    config: GenerationConfig,
    vocabulary: Vocabulary,
    criteria: Sequence[StoppingCriterion],
    start: int,  # the prompt's length
) -> Beams:
    """Extend every beam by a word and keep the `num_beams` likeliest unfinished texts of all."""
    log_probs = decoder.decode(beams.ids[:, -1:].T)[-1].float()  # [B, V]
    scores = beams.log_probs[:, None] + process_log_probs(log_probs, beams.ids[:, 1:], config, vocabulary.unk_id)
    stuck = all_ruled_out(scores)  # no word may follow: these are finished as they are
    finished = beams.finished + _hypotheses(beams.ids[stuck], beams.log_probs[stuck], start)

    # the likeliest continuations: as many as may be finished by their last word, and num_beams besides
    count = config.num_beams * (1 + sum(len(criterion.token_ids) for criterion in criteria))
    top, index = scores.flatten().topk(min(count, int(scores.isfinite().sum())))
    sources, tokens = index // scores.size(1), index % scores.size(1)
    ids = torch.cat([beams.ids[sources], tokens[:, None]], dim=1)

    # set aside those that are finished, and go on with the others
    done = is_finished(criteria, ids[:, start:])
    ended = done[: config.num_beams].nonzero().squeeze(1)
    finished += _hypotheses(ids[ended], top[ended], start)
    kept = (~done).nonzero().squeeze(1)[: config.num_beams]
    decoder.reorder(sources[kept])
    return Beams(ids[kept], top[kept], _best(finished, config))


def _hypotheses(ids: Tensor, log_probs: Tensor, start: int) -> list[Hypothesis]:
    """One for each row of `[B, T]`, without the prompt of `start` tokens."""
    return [Hypothesis(row[start:], log_prob) for row, log_prob in zip(ids, log_probs.tolist(), strict=True)]


def _best(hypotheses: Sequence[Hypothesis], config: GenerationConfig) -> list[Hypothesis]:
    """The `num_beams` best, best first."""
    ranked = sorted(hypotheses, key=lambda each: normalized(each.log_prob, len(each.ids), config), reverse=True)
    return ranked[: config.num_beams]


def _cannot_improve(beams: Beams, config: GenerationConfig) -> bool:
    """Whether no unfinished text can still come among the best: its log-probability only falls."""
    if len(beams.finished) < config.num_beams:
        return False
    worst = beams.finished[-1]
    bound = normalized(beams.log_probs[0].item(), config.max_words, config)
    return normalized(worst.log_prob, len(worst.ids), config) >= bound
