"""Sampling: the frequencies are those asked for, and samples do not disturb each other."""

import pytest
import torch

from lm.errors import UserError
from lm.generation.logits_processors import LogitsProcessor, StoppingCriterion
from lm.generation.sampler import ENDED, generate_ids
from lm.generation.sampling import Sampling
from tests.conftest import V, make_model

PROMPT = torch.tensor([0, 5])


def generated(model, words, **options):
    others = ("num_samples", "seed", "constraints", "stops")
    chosen = {name: options.pop(name) for name in others if name in options}
    return torch.stack(list(generate_ids(model, PROMPT, words, Sampling(**options), **chosen)))


NO_HISTORY = torch.empty(1, 0, dtype=torch.long)
PROBS = [0.4, 0.3, 0.15, 0.1, 0.05]


def drawn(log_probs, seed=0, **sampling):
    uniform = torch.rand(len(log_probs), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return Sampling(**sampling).draw(log_probs, uniform)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize(
    ("options", "left"),  # of PROBS, at any of the temperatures
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"top_k": 3}, [0, 1, 2]),
        ({"top_p": 0.3}, [0]),
        ({"top_p": 1.0}, [0, 1, 2, 3, 4]),
        ({"min_p": 0.7}, None),
        ({"top_k": 4, "top_p": 0.999}, [0, 1, 2, 3]),
        ({"banned": 1}, [0, 2, 3, 4]),
        ({"banned": 0, "top_k": 2}, [1, 2]),
    ],
    ids=str,
)
def test_sampled_frequencies_match_the_tempered_truncated_distribution(temperature, options, left):
    order = [3, 1, 4, 0, 2]  # not by probability
    tempered = torch.tensor(PROBS) ** (1 / temperature)
    if left is None:
        left = [i for i, prob in enumerate(tempered) if prob >= options["min_p"] * tempered[0]]
    draws = 20_000
    log_probs = torch.tensor(PROBS)[order].log().expand(draws, 5)
    if "banned" in options:
        options = options.copy()
        log_probs = LogitsProcessor(order.index(options.pop("banned"))).apply(log_probs, NO_HISTORY)
    counts = torch.bincount(drawn(log_probs, temperature=temperature, **options), minlength=5)
    expected = torch.zeros(5)
    expected[left] = tempered[left] * draws / tempered[left].sum()
    expected = expected[order]
    possible = expected > 0
    assert (counts[~possible] == 0).all()
    chi_square = ((counts - expected)[possible] ** 2 / expected[possible]).sum()
    assert chi_square < 18.5  # 99.9 % of 4 degrees of freedom


def test_top_1_is_the_likeliest_word_each_time(core_name):
    model = make_model(core_name, context=64)
    ids = generated(model, 12, top_k=1, temperature=1.0).squeeze(1)
    text = PROMPT
    for word in ids:
        log_probs, _ = model(text[:, None])
        assert word == log_probs[-1, 0].argmax()
        text = torch.cat([text, word[None]])


def test_the_same_seed_writes_the_same_and_another_does_not(core_name):
    model = make_model(core_name)
    first, second, other = (generated(model, 40, seed=seed, num_samples=3) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert not torch.equal(first[:, 0], first[:, 1])


def test_a_batch_of_samples_is_the_same_samples_one_by_one(core_name):
    model = make_model(core_name)
    options = {
        "constraints": LogitsProcessor(3, 1.3, 2),
        "stops": [StoppingCriterion(torch.arange(4, 12), 6)],
        "temperature": 0.9,
    }
    batch = generated(model, 40, seed=20, num_samples=4, **options)
    lengths = []
    for i in range(4):
        alone = generated(model, 40, seed=20 + i, **options).squeeze(1)
        lengths.append(len(alone))
        assert torch.equal(batch[: len(alone), i], alone)
        assert (batch[len(alone) :, i] == ENDED).all()
    assert len(batch) == max(lengths) > min(lengths)


def test_sampling_leaves_torchs_own_randomness_alone():
    before = torch.get_rng_state()
    generated(make_model("lstm"), 5)
    state = torch.get_rng_state()
    torch.manual_seed(0)
    make_model("lstm")
    expected_after_model = torch.get_rng_state()
    assert torch.equal(state, expected_after_model)
    torch.set_rng_state(before)


def test_top_k_beyond_the_vocabulary_draws_from_all():
    model = make_model("gru")
    assert torch.equal(generated(model, 10, seed=0, top_k=V + 5), generated(model, 10, seed=0))


def test_a_temperature_near_zero_takes_the_likeliest_word():
    log_probs = torch.tensor([[0.2, 0.5, 0.3]]).log()
    for temperature in (1e-39, 1e-320):
        assert drawn(log_probs, temperature=temperature).item() == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"temperature": 0}, "temperature=0 given, but it must be above 0"),
        ({"temperature": -1.0}, "temperature=-1.0"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"top_k": 0}, "top_k=0 given, but it must be at least 1"),
        ({"top_p": 0.0}, "top_p=0.0 given, but it must be above 0 and at most 1"),
        ({"min_p": 1.5}, "min_p=1.5"),
        ({"num_samples": 0}, "num_samples=0"),
        ({"words": -1}, "words=-1"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_options_out_of_range_are_refused_at_once(wrong, message):
    with pytest.raises(UserError, match=message):
        generated(make_model("lstm"), **{"words": 3} | wrong)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_every_one_of_many_words_can_be_drawn_in_any_precision(dtype):
    log_probs = torch.full((5000, 5000), 1 / 5000).log().to(dtype)
    uniform = (torch.arange(5000, dtype=torch.float64) + 0.5) / 5000
    assert Sampling().draw(log_probs, uniform).tolist() == list(range(5000))


def test_words_without_probability_are_never_drawn():
    log_probs = torch.tensor([-torch.inf, 0.5, -torch.inf, 0.5, -torch.inf]).expand(5000, 5)
    assert drawn(log_probs).unique().tolist() == [1, 3]


@pytest.mark.parametrize("seed", range(3))
def test_a_sample_without_a_word_left_ends_and_the_others_go_on(seed):
    stop = StoppingCriterion(torch.tensor([2]), count=1)
    options = {"constraints": LogitsProcessor(banned=3, no_repeat_ngram=1), "seed": seed}
    batch = generated(make_model("lstm"), 2 * V, num_samples=4, **options)
    for sample in batch.T.tolist():
        assert sorted(sample[: V - 2]) == [word for word in range(V) if word not in (3, 5)]
        assert set(sample[V - 2 :]) <= {ENDED}
    for sample in generated(make_model("lstm"), 2 * V, num_samples=4, stops=[stop], **options).T.tolist():
        assert sample[sample.index(2) + 1 :] == [ENDED] * (len(sample) - sample.index(2) - 1)
