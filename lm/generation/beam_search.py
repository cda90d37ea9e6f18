"""The likeliest text of a model, as far as a beam of a given width finds it."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from lm.config.checks import at_least
from lm.generation.incremental import IncrementalDecoder
from lm.generation.logits_processors import LogitsProcessor, StoppingCriterion, at_end, stuck
from lm.models import CausalLM


class Hypothesis(NamedTuple):
    """A text after the prompt, `[T]`, and its log-probability in nats."""

    ids: Tensor
    log_prob: float


@torch.no_grad()
def beam_search(
    model: CausalLM,
    prompt: Tensor,
    words: int,
    beams: int,
    length_penalty: float = 0.0,
    constraints: LogitsProcessor | None = None,
    stops: Sequence[StoppingCriterion] = (),
) -> list[Hypothesis]:
    """The best texts found, at most `beams` of them, best first.

    At each step the `beams` likeliest continuations of all beams stay; texts that have come to an end are set aside.
    Texts are compared by log-probability / ((5 + T) / 6)^length_penalty (Wu et al. 2016).

    Args:
        model: in evaluation mode.
        prompt: what all texts begin with, `[T]`; the first token is the one before the text, and no word of it.
        words: the most words of a text.
        beams: the width.
        length_penalty: 0 compares log-probabilities; 1 about those per word, which favours longer texts.
        constraints: what may not be written; None allows all.
        stops: any of them ends a text.

    Raises:
        UserError: if a value is out of range.
    """
    at_least(1, words=words, beams=beams)
    at_least(0, length_penalty=length_penalty)
    constraints = constraints or LogitsProcessor()

    candidates = beams * (1 + sum(len(stop.words) for stop in stops))  # as many as may end, and beams beside them
    reader = IncrementalDecoder.after(model, prompt[:-1], 1)
    texts, tokens = prompt[None], prompt[-1:, None]
    scores = torch.zeros(1, dtype=torch.float64, device=prompt.device)
    ended: list[Hypothesis] = []
    for _ in range(words):
        sums = scores[:, None] + constraints.apply(reader.read(tokens)[-1].float(), texts[:, 1:])
        dead = stuck(sums)
        ended += hypotheses(texts[dead], scores[dead], len(prompt))
        if dead.all():
            break
        scores, places = sums.flatten().topk(min(candidates, int(sums.isfinite().sum())))
        sources, tokens = places // sums.size(1), places % sums.size(1)
        texts = torch.cat([texts[sources], tokens[:, None]], dim=1)
        stopped = at_end(stops, texts[:, len(prompt) :])
        ended += hypotheses(texts[:beams][stopped[:beams]], scores[:beams][stopped[:beams]], len(prompt))
        live = (~stopped).nonzero().squeeze(1)[:beams]
        texts, scores, tokens = texts[live], scores[live], tokens[live][None]
        reader.select(sources[live])
        if not len(live) or _cannot_improve(ended, beams, scores.max().item(), words, length_penalty):
            break
    else:
        ended += hypotheses(texts, scores, len(prompt))
    return sorted(ended, key=partial(merit, length_penalty=length_penalty), reverse=True)[:beams]


def merit(hypothesis: Hypothesis, length_penalty: float) -> float:
    """What texts are compared by."""
    return normalized(hypothesis.log_prob, len(hypothesis.ids), length_penalty)


def normalized(log_prob: float, length: int, length_penalty: float) -> float:
    """The log-probability of a text of some length, so that longer ones may compete."""
    return log_prob / ((5 + length) / 6) ** length_penalty


def hypotheses(texts: Tensor, scores: Tensor, start: int) -> list[Hypothesis]:
    """One for each row of `[B, T]`, without the first `start` words."""
    return [Hypothesis(text[start:], score) for text, score in zip(texts, scores.tolist(), strict=True)]


def _cannot_improve(ended: Sequence[Hypothesis], beams: int, best: float, words: int, length_penalty: float) -> bool:
    """Whether no text that goes on can still come among the best: its log-probability only falls."""
    merits = sorted((merit(each, length_penalty) for each in ended), reverse=True)
    return len(merits) >= beams and merits[beams - 1] >= normalized(best, words, length_penalty)
