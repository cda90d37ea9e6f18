"""Text from a model, one word at a time for several samples at once."""

from collections.abc import Iterator

import torch
from torch import Tensor

from lm.checks import above_zero, at_least
from lm.models import TokenModel
from lm.reader import Reader


def generate_ids(
    model: TokenModel,
    prompt: Tensor,
    words: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    num_samples: int = 1,
    seed: int | None = None,
) -> Iterator[Tensor]:
    """Yield the next word of every sample, `[num_samples]`, `words` times.

    Args:
        model: in evaluation mode.
        prompt: what all samples begin with, `[T]`, at least one token.
        words: how many to generate.
        temperature: divides the log-probabilities: below 1 for likelier words, above 1 for more varied ones.
        top_k: draw from this many likeliest words; None draws from all.
        num_samples: samples made side by side.
        seed: of the draws; None takes a new one each time.

    Raises:
        UserError: if a value is out of range.
    """
    check_options(words, temperature, top_k, num_samples, seed)
    generator = torch.Generator(prompt.device)
    generator.manual_seed(seed) if seed is not None else generator.seed()
    return _generate(model, prompt, words, temperature, top_k, num_samples, generator)


def check_options(words: int, temperature: float, top_k: int | None, num_samples: int, seed: int | None) -> None:
    """Check the options of `generate_ids`.

    Raises:
        UserError: if a value is out of range.
    """
    at_least(0, words=words, seed=seed)
    at_least(1, top_k=top_k, num_samples=num_samples)
    above_zero(temperature=temperature)


def sample(log_probs: Tensor, temperature: float, top_k: int | None, generator: torch.Generator) -> Tensor:
    """Draw one word for each row of `[B, V]`: `[B]`.

    By inverting the cumulative distribution, with one random number a row; torch.multinomial draws V of them.
    """
    words = None
    if top_k is not None and top_k < log_probs.size(-1):
        log_probs, words = log_probs.topk(top_k)
    weights = (log_probs.float() - log_probs.amax(-1, keepdim=True)).div_(temperature).exp_()
    cumulative = weights.cumsum(-1, dtype=torch.float64)  # in fp32 the rarest words would vanish beside 1
    uniform = torch.rand(len(weights), 1, dtype=torch.float64, device=weights.device, generator=generator)
    total = cumulative[:, -1:]
    # a product that rounds up to the total would lie beyond the last word
    point = torch.minimum(uniform * total, total.nextafter(torch.zeros_like(total)))
    drawn = torch.searchsorted(cumulative, point, right=True)
    return (drawn if words is None else words.gather(-1, drawn)).squeeze(-1)


def _generate(
    model: TokenModel,
    prompt: Tensor,
    words: int,
    temperature: float,
    top_k: int | None,
    num_samples: int,
    generator: torch.Generator,
) -> Iterator[Tensor]:
    reader = Reader(model, num_samples)
    tokens = prompt[:, None].expand(-1, num_samples)
    for _ in range(words):
        log_probs = reader.read(tokens)[-1]
        drawn = sample(log_probs, temperature, top_k, generator)
        yield drawn
        tokens = drawn[None]
