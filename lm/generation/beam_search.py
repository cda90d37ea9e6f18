"""Beam search: the most probable texts found with a beam of a given width."""

from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from lm.data.vocabulary import Vocabulary
from lm.generation.config import GenerationConfig
from lm.generation.incremental import IncrementalDecoder
from lm.generation.logits_processors import all_ruled_out, process_log_probs
from lm.generation.stopping_criteria import StoppingCriteria
from lm.models import CausalLM


class Hypothesis(NamedTuple):
    """A text found by a search."""

    ids: Tensor  # without the prompt, [T]
    log_prob: float  # in nats
    score: float  # log_prob divided by the length penalty, by which hypotheses are ranked


class Beams(NamedTuple):
    """The state of a search: replaced as a whole, so that an interrupt never leaves it half updated."""

    ids: Tensor  # unfinished texts with their prompt, [B, T], most probable first
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

    All begin with the token ids `prompt`, `[T]`, the first of which (`<eos>`) is only context. An exception
    that `interruptible` suppresses ends the search early, with the best texts so far.
    """
    criteria, start = StoppingCriteria(config, vocabulary), len(prompt)
    # how many continuations to rank: all that may be finished by their last word, plus num_beams
    width = config.num_beams * (1 + sum(len(ends) for ends, _ in criteria.limits))
    beams = Beams(prompt[None], torch.zeros(1, dtype=torch.float64, device=prompt.device), [])
    with interruptible or nullcontext():
        decoder = IncrementalDecoder.prefill(model, prompt[:-1], 1)
        for _ in range(config.max_words):
            log_probs = decoder.decode(beams.ids[:, -1:].T)[-1].float()  # [B, V]
            log_probs = process_log_probs(log_probs, beams.ids[:, 1:], config, vocabulary.unk_id)
            exhausted = all_ruled_out(log_probs)  # these texts are finished as they are
            finished = beams.finished + _hypotheses(beams.ids[exhausted], beams.log_probs[exhausted], start, config)

            # extend every beam by its most probable words, and rank all of these texts together
            top_log_probs, words = log_probs.topk(min(width, log_probs.size(1)))
            sums = (beams.log_probs[:, None] + top_log_probs).flatten()
            top, index = sums.topk(min(width, int(sums.isfinite().sum())))
            sources, tokens = index // words.size(1), words.flatten()[index]
            ids = torch.cat([beams.ids[sources], tokens[:, None]], dim=1)

            # move finished ones among the top num_beams aside, and continue with the best unfinished ones
            met = criteria.are_met(ids[:, start:])
            done = met[: config.num_beams].nonzero().squeeze(1)
            kept = (~met).nonzero().squeeze(1)[: config.num_beams]
            finished += _hypotheses(ids[done], top[done], start, config)
            beams = Beams(ids[kept], top[kept], _best(finished, config))
            decoder.reorder(sources[kept])
            if not len(kept) or _cannot_improve(beams, config):
                break
    unfinished = _hypotheses(beams.ids, beams.log_probs, start, config)
    return _best(beams.finished + unfinished, config)[: config.num_samples]


def normalized(log_prob: float, length: int, config: GenerationConfig) -> float:
    """Divide a text's log-probability by its length penalty ((5 + T) / 6)^α (Wu et al. 2016)."""
    return log_prob / ((5 + length) / 6) ** config.length_penalty


def _hypotheses(ids: Tensor, log_probs: Tensor, start: int, config: GenerationConfig) -> list[Hypothesis]:
    """One for each row of `[B, T]`, without the prompt of `start` tokens."""
    pairs = zip(ids[:, start:], log_probs.tolist(), strict=True)
    return [Hypothesis(text, log_prob, normalized(log_prob, len(text), config)) for text, log_prob in pairs]


def _best(hypotheses: list[Hypothesis], config: GenerationConfig) -> list[Hypothesis]:
    return sorted(hypotheses, key=lambda each: each.score, reverse=True)[: config.num_beams]


def _cannot_improve(beams: Beams, config: GenerationConfig) -> bool:
    """Whether no unfinished text can still be among the best: log-probabilities only decrease."""
    bound = normalized(beams.log_probs[0].item(), config.max_words, config)
    return len(beams.finished) == config.num_beams and beams.finished[-1].score >= bound
