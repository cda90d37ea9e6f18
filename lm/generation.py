"""Text from a model, one word at a time for several samples at once."""

from collections.abc import Iterator

import torch
from torch import Tensor

from lm.checks import at_least
from lm.models import TokenModel
from lm.reader import Reader
from lm.sampling import Sampling


def generate_ids(
    model: TokenModel,
    prompt: Tensor,
    words: int,
    sampling: Sampling | None = None,
    num_samples: int = 1,
    seed: int | None = None,
) -> Iterator[Tensor]:
    """Yield the next word of every sample, `[num_samples]`, `words` times.

    Args:
        model: in evaluation mode.
        prompt: what all samples begin with, `[T]`, at least one token.
        words: how many to generate.
        sampling: how to draw them; None draws from the model's own distribution.
        num_samples: samples made side by side.
        seed: of the draws; None takes a new one each time.

    Raises:
        UserError: if a value is out of range.
    """
    check_options(words, num_samples, seed)
    generator = torch.Generator(prompt.device)
    generator.manual_seed(seed) if seed is not None else generator.seed()
    return _generate(model, prompt, words, sampling or Sampling(), num_samples, generator)


def check_options(words: int, num_samples: int, seed: int | None) -> None:
    """Check the options of `generate_ids`.

    Raises:
        UserError: if a value is out of range.
    """
    at_least(0, words=words, seed=seed)
    at_least(1, num_samples=num_samples)


def _generate(
    model: TokenModel, prompt: Tensor, words: int, sampling: Sampling, num_samples: int, generator: torch.Generator
) -> Iterator[Tensor]:
    reader = Reader(model, num_samples)
    tokens = prompt[:, None].expand(-1, num_samples)
    for _ in range(words):
        drawn = sampling.draw(reader.read(tokens)[-1], generator)
        yield drawn
        tokens = drawn[None]
