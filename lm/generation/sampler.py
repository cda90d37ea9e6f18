"""Text from a model, one word at a time for several samples at once."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lm.config.checks import at_least
from lm.generation.incremental import IncrementalDecoder
from lm.generation.logits_processors import LogitsProcessor, StoppingCriterion, at_end, stuck
from lm.generation.sampling import Sampling
from lm.models import CausalLM

ENDED = -1  # in the place of a word, where a sample has come to its end


def generate_ids(
    model: CausalLM,
    prompt: Tensor,
    words: int,
    sampling: Sampling | None = None,
    constraints: LogitsProcessor | None = None,
    stops: Sequence[StoppingCriterion] = (),
    num_samples: int = 1,
    seed: int | None = None,
) -> Iterator[Tensor]:
    """Yield the next word of every sample, `[num_samples]`, up to `words` times.

    A sample draws with numbers of its own: the second one of `seed=7` is the first one of `seed=8`.

    Args:
        model: in evaluation mode.
        prompt: what all samples begin with, `[T]`; the first token is the one before the text, and no word of it.
        words: how many to generate.
        sampling: how to draw them; None draws from the model's own distribution.
        constraints: what may not be drawn; None allows all.
        stops: any of them ends a sample, whose further words are ENDED.
        num_samples: samples made side by side.
        seed: of the draws; None takes a new one each time.

    Raises:
        UserError: if a value is out of range.
    """
    at_least(0, words=words, seed=seed)
    at_least(1, num_samples=num_samples)
    generators = [torch.Generator() for _ in range(num_samples)]
    for i, generator in enumerate(generators):
        generator.manual_seed((seed + i) % 2**64) if seed is not None else generator.seed()
    return _generate(model, prompt, words, sampling or Sampling(), constraints or LogitsProcessor(), stops, generators)


def _generate(
    model: CausalLM,
    prompt: Tensor,
    words: int,
    sampling: Sampling,
    constraints: LogitsProcessor,
    stops: Sequence[StoppingCriterion],
    generators: Sequence[torch.Generator],
) -> Iterator[Tensor]:
    reader = IncrementalDecoder.after(model, prompt[:-1], len(generators))
    history, tokens = prompt.expand(len(generators), -1), prompt[-1:].expand(len(generators), 1)
    looks_back = constraints.look_back or bool(stops)
    ended = torch.zeros(len(generators), dtype=torch.bool, device=prompt.device)
    for _ in range(words):
        scores = constraints.apply(reader.read(tokens.T)[-1], history[:, 1:])
        if (dead := stuck(scores)).any():
            ended |= dead
            scores = scores.masked_fill(dead[:, None], 0)  # any word: it is not shown
        if ended.all():
            return
        uniform = torch.cat([torch.rand(1, dtype=torch.float64, generator=generator) for generator in generators])
        drawn = sampling.draw(scores, uniform.to(scores.device))
        yield drawn.where(~ended, ENDED)
        tokens = drawn[:, None]
        history = torch.cat([history, tokens], dim=1) if looks_back else history
        ended |= at_end(stops, history[:, len(prompt) :])
