"""The neural cache against a slow version in plain words, and as a probability."""

import math

import pytest
import torch

from lm.errors import UserError
from lm.evaluation.neural_cache import CacheHistory, NeuralCache
from lm.evaluation.protocol import Protocol
from lm.evaluation.scoring import Interpolation, score_tokens
from tests.conftest import V, make_model

WINDOW, THETA, WEIGHT, TEMPERATURE = 6, 0.8, 0.3, 1.2


@torch.no_grad()
def slow_mixture(model, inputs, targets):
    """p(w) for all words `[T, V]` of one stream, position by position."""
    hidden, _ = model.hidden_states(inputs[:, None])
    hidden = hidden[:, 0]
    log_probs = model.head.log_prob(hidden)
    rows = []
    for t in range(len(inputs)):
        row = torch.softmax(log_probs[t] / TEMPERATURE, -1)
        weights = {i: math.exp(THETA * float(hidden[t] @ hidden[i])) for i in range(max(0, t - WINDOW), t)}
        if weights:
            cached = torch.zeros(V)
            for i, weight in weights.items():
                cached[targets[i]] += weight / sum(weights.values())
            row = (1 - WEIGHT) * row + WEIGHT * cached
        rows.append(row)
    return torch.stack(rows)


def test_each_words_probability_is_that_of_the_slow_version_which_sums_to_one(core_name):
    model = make_model(core_name, context=40)
    text = torch.randint(6, (40,))
    [window] = Protocol(batch_size=1, trim=False, context=40, stride=40).windows(text, eos_id=0)
    found = score_tokens(model, [window], [TEMPERATURE], [THETA], WINDOW)
    slow = slow_mixture(model, window.inputs[:, 0].long(), text)
    torch.testing.assert_close(slow.sum(-1), torch.ones(40))
    expected = -slow.gather(1, text[:, None]).squeeze(1).log().double()
    torch.testing.assert_close(Interpolation(TEMPERATURE, THETA, WEIGHT).nll(found), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("theta", [0.0, 0.5])
def test_probabilities_of_all_words_sum_to_one(theta):
    hidden, words = torch.randn(9, 2, 5), torch.randint(4, (9, 2))
    total = 0
    for word in range(4):
        history = CacheHistory(window=3)
        history.predict(hidden[:8], words[:8], [theta])
        total += history.predict(hidden[8:], torch.full((1, 2), word), [theta])
    torch.testing.assert_close(total, torch.ones(1, 1, 2))


def test_what_is_predicted_does_not_depend_on_how_the_text_was_cut():
    hidden, words = torch.randn(20, 3, 5), torch.randint(4, (20, 3))
    whole = CacheHistory(7).predict(hidden, words, [0.3, 1.0])
    history = CacheHistory(7)
    parts = [history.predict(hidden[i : i + 3], words[i : i + 3], [0.3, 1.0]) for i in range(0, 20, 3)]
    torch.testing.assert_close(torch.cat(parts, 1), whole, equal_nan=True)
    assert whole[:, 0].isnan().all() and not whole[:, 1:].isnan().any()


@pytest.mark.parametrize(
    "values",
    [
        {"window": 0},
        {"theta": -1.0},
        {"interpolation_weight": 1.0},
        {"candidates": {"interpolation_weight": [2.0]}},
        {"candidates": {"thetas": [1.0]}},
        {"candidates": {"theta": []}},
    ],
)
def test_values_out_of_range_are_refused(values):
    with pytest.raises(UserError, match=r"given, but (it|there) must be"):
        NeuralCache(**({"window": 5, "theta": 0.1, "interpolation_weight": 0.1} | values))
