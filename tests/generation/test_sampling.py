"""Sampling: the frequencies are those asked for, and samples do not disturb each other."""

import pytest
import torch

from lm.data import EOS, UNK, Vocabulary
from lm.generation.config import GenerationConfig
from lm.generation.logits_processors import process_log_probs
from lm.generation.sampling import BLOCK, FINISHED, generate_ids, sample, uniform_numbers
from tests.conftest import V, make_model

PROMPT = torch.tensor([0, 5])
VOCABULARY = Vocabulary([EOS, UNK, ".", "!", "?", *(f"w{i}" for i in range(V - 5))])
NO_HISTORY = torch.empty(1, 0, dtype=torch.long)
PROBS = [0.4, 0.3, 0.15, 0.1, 0.05]


def generated(model, max_words, **options):
    config = GenerationConfig(max_words=max_words, **options)
    return torch.stack(list(generate_ids(model, PROMPT, config, VOCABULARY)))


def drawn(log_probs, seed=0, **options):
    uniform = torch.rand(len(log_probs), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return sample(log_probs, uniform, GenerationConfig(**options))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize(
    ("options", "left"),  # of PROBS, at any of the temperatures
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"top_k": 3}, [0, 1, 2]),
        ({"top_p": 0.3}, [0]),
        ({"top_p": 1.0}, [0, 1, 2, 3, 4]),
        ({"top_p": 0.8}, None),  # 2, 3 and 4 words
        ({"min_p": 0.7}, None),
        ({"top_k": 4, "top_p": 0.999}, [0, 1, 2, 3]),
        ({"unk": 1}, [0, 2, 3, 4]),
        ({"unk": 0, "top_k": 2}, [1, 2]),
    ],
    ids=str,
)
def test_sampled_frequencies_match_the_tempered_truncated_distribution(temperature, options, left):
    order = [3, 1, 4, 0, 2]  # not by probability
    tempered = torch.tensor(PROBS) ** (1 / temperature)
    if left is None:
        share = tempered / tempered.sum()
        least, most = options.get("min_p", 0), options.get("top_p", 1)
        left = [i for i in range(5) if share[i] >= least * share[0] and share[:i].sum() < most]
    draws = 20_000
    log_probs = torch.tensor(PROBS)[order].log().expand(draws, 5)
    if "unk" in options:
        options = options.copy()
        unk_id = order.index(options.pop("unk"))
        log_probs = process_log_probs(log_probs, NO_HISTORY, GenerationConfig(allow_unk=False), unk_id)
    counts = torch.bincount(drawn(log_probs, temperature=temperature, **options), minlength=5)
    expected = torch.zeros(5)
    expected[left] = tempered[left] * draws / tempered[left].sum()
    expected = expected[order]
    possible = expected > 0
    assert (counts[~possible] == 0).all()
    chi_square = ((counts - expected)[possible] ** 2 / expected[possible]).sum()
    assert chi_square < 18.5  # 99.9 % of 4 degrees of freedom


def test_top_1_is_the_most_probable_word_each_time(core_name):
    model = make_model(core_name, context=64)
    ids = generated(model, 12, top_k=1, temperature=1.0).squeeze(1)
    text = PROMPT
    for word in ids:
        log_probs, _ = model(text[:, None])
        assert word == log_probs[-1, 0].argmax()
        text = torch.cat([text, word[None]])


def test_the_same_seed_gives_the_same_samples_and_another_does_not(core_name):
    model = make_model(core_name)
    first, second, other = (generated(model, 15, seed=seed, num_samples=3) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert not torch.equal(first[:, 0], first[:, 1])


def test_a_batch_of_samples_is_the_same_samples_one_by_one(core_name):
    model = make_model(core_name)
    options = {"allow_unk": False, "repetition_penalty": 1.3, "no_repeat_ngram_size": 2, "temperature": 0.9}
    options |= {"max_sentences": 2}
    batch = generated(model, 40, seed=20, num_samples=4, **options)
    lengths = []
    for i in range(4):
        alone = generated(model, 40, seed=20 + i, **options).squeeze(1)
        lengths.append(len(alone))
        assert torch.equal(batch[: len(alone), i], alone)
        assert (batch[len(alone) :, i] == FINISHED).all()
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


def test_a_temperature_near_zero_takes_the_most_probable_word():
    log_probs = torch.tensor([[0.2, 0.5, 0.3]]).log()
    for temperature in (1e-39, 1e-320):
        assert drawn(log_probs, temperature=temperature).item() == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_every_one_of_many_words_can_be_drawn_in_any_precision(dtype):
    log_probs = torch.full((5000, 5000), 1 / 5000).log().to(dtype)
    uniform = (torch.arange(5000, dtype=torch.float64) + 0.5) / 5000
    assert sample(log_probs, uniform, GenerationConfig()).tolist() == list(range(5000))


@pytest.mark.parametrize("words", [1, BLOCK - 1, BLOCK, BLOCK + 1, 10 * BLOCK + 7])
def test_the_drawn_word_is_where_the_cumulative_sum_passes_the_random_number(words):
    log_probs = torch.randn(500, words).mul(3).log_softmax(-1)
    uniform = torch.linspace(0, 1, 501, dtype=torch.float64)[:-1]
    cumulative = log_probs.double().exp().cumsum(-1)
    index = sample(log_probs, uniform, GenerationConfig())[:, None]
    ends = cumulative.gather(1, index).squeeze(1)
    starts = ends - log_probs.double().exp().gather(1, index).squeeze(1)
    assert (starts - 1e-6 <= uniform).all()
    assert (uniform <= ends + 1e-6).all()


def test_random_numbers_are_those_of_each_samples_own_generator_one_by_one():
    generators = [torch.Generator().manual_seed(seed) for seed in (7, 8)]
    config = GenerationConfig(seed=7, num_samples=2)
    for _, numbers in zip(range(300), uniform_numbers(config), strict=False):
        expected = [torch.rand(1, dtype=torch.float64, generator=generator).item() for generator in generators]
        assert numbers.tolist() == expected


def test_words_without_probability_are_never_drawn():
    log_probs = torch.tensor([-torch.inf, 0.5, -torch.inf, 0.5, -torch.inf]).expand(5000, 5)
    assert drawn(log_probs).unique().tolist() == [1, 3]


@pytest.mark.parametrize("seed", range(3))
def test_a_sample_that_no_word_may_follow_is_finished_and_the_others_go_on(seed):
    options = {"allow_unk": False, "no_repeat_ngram_size": 1, "seed": seed}
    batch = generated(make_model("lstm"), 2 * V, num_samples=4, **options)
    for text in batch.T.tolist():
        assert sorted(text[: V - 2]) == [word for word in range(V) if word not in (VOCABULARY.unk_id, 5)]
        assert set(text[V - 2 :]) <= {FINISHED}
    for text in generated(make_model("lstm"), 2 * V, num_samples=4, max_lines=1, **options).T.tolist():
        assert text[text.index(0) + 1 :] == [FINISHED] * (len(text) - text.index(0) - 1)
