"""The random state of a process, saved and restored."""

import random

import numpy as np
import torch

from lm.training.resume.rng_state import random_state, set_random_state


def draw() -> list[float]:
    """From each generator, an odd number of normal ones, of which the next is kept for later."""
    return [random.random(), random.gauss(), np.random.rand(), np.random.randint(9), torch.rand(()).item()]


def test_every_generator_goes_on_as_it_was():
    draw()
    saved = random_state()
    expected = [draw(), draw()]
    set_random_state(saved)
    assert [draw(), draw()] == expected
