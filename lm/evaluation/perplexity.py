"""Perplexity, and a verdict on a bad one."""

import math

FP32_LIMIT = 88.7  # nats, beyond which a perplexity is infinite in fp32, in which it is logged


def perplexity(loss: float) -> float:
    """The exponential of a mean loss in nats per token; infinite on overflow."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


def verdict(loss: float, vocabulary_size: int) -> str:
    """What is wrong with a model of this loss in nats per token; empty if nothing."""
    if not loss < FP32_LIMIT:
        return "diverged"
    if loss > math.log(vocabulary_size):
        return f"worse than a uniform guess, whose perplexity is {vocabulary_size:,}"
    return ""
