"""The cost model of the adaptive softmax: its probabilities, its fit, and the cutoffs that minimise it."""

import itertools
import json
import math

import pytest
import torch

from lm.benchmark.cutoffs import candidates, cheapest_path, cluster_costs, fit, terms, unigram_probs
from lm.ops import SHAPE_MULTIPLE
from tests.benchmark.test_benchmark import plan, run_benchmark

COEFFICIENTS = torch.tensor([6e-4, 4e-7, 1e-7, 1e-9, 5e-10, 1e-11], dtype=torch.double)


def seconds(rows, words, width):
    """The cost model, written out."""
    constant, per_row, per_word, per_weight, per_logit, per_product = COEFFICIENTS.tolist()
    reading = per_row * rows + per_word * words + per_weight * words * width
    return constant + reading + (per_logit + per_product * width) * rows * words


@pytest.mark.parametrize("clusters", [1, 2, 3, 4])
def test_the_cheapest_path_costs_the_least_of_all_paths(clusters):
    positions = 9
    costs = torch.rand(clusters, positions, positions, generator=torch.Generator().manual_seed(clusters))
    costs = costs.where(torch.ones(positions, positions).triu(1) > 0, math.inf)

    def cost(inner):
        bounds = [0, *inner, positions - 1]
        return sum(costs[i, a, b].item() for i, (a, b) in enumerate(itertools.pairwise(bounds)))

    everything = itertools.combinations(range(1, positions - 1), clusters - 1)
    assert cheapest_path(costs) == list(min(everything, key=cost))


def test_the_fit_finds_the_coefficients_of_exact_times():
    shapes = list(itertools.product((43, 175, 700), (519, 2079, 8319, 33278), (200, 50, 12)))
    found = fit(shapes, [seconds(*shape) for shape in shapes])
    torch.testing.assert_close(found, COEFFICIENTS, rtol=1e-6, atol=0)


def test_the_fit_is_as_good_for_small_clusters_as_for_large_ones():
    shapes = list(itertools.product((43, 175, 700), (519, 2079, 8319, 33278), (200, 50, 12)))
    noise = 1 + 0.05 * torch.randn(len(shapes), generator=torch.Generator().manual_seed(0))
    found = fit(shapes, [seconds(*shape) * each for shape, each in zip(shapes, noise.tolist(), strict=True)])
    predicted = terms(*torch.tensor(shapes, dtype=torch.double).unbind(1)) @ found
    exact = torch.tensor([seconds(*shape) for shape in shapes], dtype=torch.double)
    torch.testing.assert_close(predicted, exact, rtol=0.08, atol=0)


def test_unigram_probs_are_relative_frequencies():
    assert unigram_probs(torch.tensor([0, 2, 0, 1], dtype=torch.int32), 4).tolist() == [0.5, 0.25, 0.25, 0]


def test_all_tokens_use_the_first_cluster_and_the_targets_own_the_others():
    probs = torch.tensor([0.5, 0.3, 0.1, 0.06, 0.04], dtype=torch.double)
    costs = cluster_costs(COEFFICIENTS, probs, [0, 1, 3, 5], [200, 50, 12], tokens=1000)
    assert costs[0, 0, 2].item() == pytest.approx(seconds(1000, 3 + 2, 200))  # and an entry for each other cluster
    assert costs[1, 1, 2].item() == pytest.approx(seconds(400 + SHAPE_MULTIPLE / 2, 2, 50))
    assert costs[2, 2, 3].item() == pytest.approx(seconds(100 + SHAPE_MULTIPLE / 2, 2, 12))
    assert costs[:, 1, 1].isinf().all()
    assert costs[:, 2, 1].isinf().all()


def test_candidates_have_two_significant_digits_and_include_both_ends():
    assert candidates(7) == [0, 1, 2, 3, 4, 5, 6, 7]
    found = candidates(33278)
    assert (found[0], found[-2], found[-1]) == (0, 33000, 33278)
    assert {2000, 10000, 2100, 990} < set(found)
    assert 2050 not in found


def test_frequent_words_make_a_small_first_cluster_the_fastest():
    words = 10_000
    first = []
    for exponent in (1.5, 1.0):  # Zipf's law
        probs = torch.arange(1, words + 1, dtype=torch.double) ** -exponent
        costs = cluster_costs(COEFFICIENTS, probs / probs.sum(), candidates(words), [200, 50], tokens=700)
        first.append(candidates(words)[cheapest_path(costs)[0]])
    assert 1 <= first[0] < first[1] < words


def test_the_script_asks_for_the_cutoffs_of_the_adaptive_softmax(text_folder):
    [(work, model, [side])] = plan(text_folder, "work=[cutoffs]", "only=[lstm]")
    assert (work, model, side.config["model"]["head"]["_target_"]) == ("cutoffs", "lstm", "lm.models.AdaptiveHead")


@pytest.mark.slow
def test_cutoffs_of_each_number_of_clusters_are_printed_beside_the_configs(text_folder, tmp_path):
    adaptive = 'sides.adaptive=["model/head=adaptive","model.head.cutoffs=[5]"]'
    done = run_benchmark(text_folder, tmp_path, "work=[cutoffs]", "only=[gru,lstm_650_tied]", adaptive)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "speed.json").read_text())["rows"]
    assert len(rows) == 8
    assert rows[0]["cutoffs"] == "5 (config)"
    assert [len(row["cutoffs"].split()) for row in rows[1:4]] == [1, 2, 3]
    assert all(row["ms"] > 0 and 0 < row["frequent"] <= 1 for row in rows)
    assert "predicted" in done.stdout
