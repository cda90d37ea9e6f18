"""Mixtures: EM finds the best weights, and every component keeps its own methods, weights and tokens."""

import math
from itertools import product

import pytest
import torch
from lightning import Fabric

from lm.data.datamodule import TextDataModule
from lm.data.sources import folder
from lm.evaluation.config import EvaluationConfig
from lm.evaluation.dynamic_evaluation import DynamicEvaluation
from lm.evaluation.evaluator import EvaluationResult, Evaluator
from lm.evaluation.mixture import TOLERANCE, mixture, mixture_weights, mixtures
from lm.evaluation.neural_cache import NeuralCache
from lm.evaluation.ngram import KneserNey
from lm.evaluation.ngram_evaluator import NGramEvaluator
from lm.evaluation.scoring import Interpolation, TokenScores
from tests.conftest import make_model


def log_probs(models: int, tokens: int = 200) -> torch.Tensor:
    """Of models that are each good at some tokens, `[K, N]`."""
    return torch.rand(models, tokens, dtype=torch.double, generator=torch.Generator().manual_seed(0)).pow(4).log()


def result(values: torch.Tensor, model: str = "", tuning: torch.Tensor | None = None) -> EvaluationResult:
    ids = torch.zeros(len(values), dtype=torch.long)
    scores = TokenScores(ids, ids, {1.0: values}, {}, 1.0, True)
    return EvaluationResult((), Interpolation(), None, scores, model, -(values if tuning is None else tuning))


@pytest.mark.parametrize("models", [2, 3])
def test_em_finds_the_weights_of_a_fine_grid(models):
    values, steps = log_probs(models), 200
    grid = [w for w in product(range(steps + 1), repeat=models - 1) if sum(w) <= steps]
    grid = torch.tensor([[*w, steps - sum(w)] for w in grid], dtype=torch.double) / steps
    likelihoods = (grid @ values.exp()).log().mean(1)
    weights = mixture_weights(values)
    assert weights.sum() == pytest.approx(1)
    torch.testing.assert_close(weights, grid[likelihoods.argmax()], rtol=0, atol=1 / steps)
    assert (weights @ values.exp()).log().mean() >= likelihoods.max() - TOLERANCE


def test_a_mixture_of_a_model_with_itself_is_the_model():
    [values] = log_probs(1)
    mixed = mixture([result(values, "a"), result(values, "b")])
    torch.testing.assert_close(mixed.nll, -values)
    assert mixed.values == pytest.approx({"a": 0.5, "b": 0.5})
    assert (mixed.name, mixed.scores.seconds) == ("mixture", 2)


def test_a_mixture_is_at_least_as_good_as_its_best_component_on_the_tuning_text():
    values = log_probs(4)
    values[2] += 3 * torch.ones(values.size(1))  # by far the best
    mixed = mixture([result(each, str(i)) for i, each in enumerate(values)])
    assert mixed.loss <= -values.mean(1).max() + TOLERANCE


def test_a_model_that_diverged_has_no_weight():
    values = log_probs(2)
    lost = torch.full_like(values[0], math.nan)
    mixed = mixture([result(values[0], "a"), result(lost, "b"), result(-lost.nan_to_num(math.inf), "c")])
    assert mixed.values == pytest.approx({"a": 1, "b": 0, "c": 0}, abs=1e-5)
    assert mixed.loss == pytest.approx(-values[0].mean().item(), abs=1e-4)


@pytest.fixture
def data(text_folder, vocabulary):
    return TextDataModule(folder, text_folder, text_folder / "cache", bptt=8, vocabulary=vocabulary)


def test_every_model_is_mixed_with_its_own_methods_and_keeps_its_weights(data):
    dynamic = DynamicEvaluation(0.3, 0.01)
    config = EvaluationConfig(cache=NeuralCache(50, 0.3, 0.1), dynamic=dynamic, ngram=KneserNey(3), tune_tokens=150)
    models = {name: make_model(name, hidden_size=16) for name in ("lstm", "transformer")}
    before = {name: [each.clone() for each in model.parameters()] for name, model in models.items()}
    fabric = Fabric(accelerator="cpu", devices=1)
    runs = [Evaluator(config, model, data, fabric, name, mixed=True) for name, model in models.items()]
    assert runs[0].protocol.context != runs[1].protocol.context
    ngrams = NGramEvaluator(config.ngram, config.tune_tokens, runs[0].protocol, data)
    results = [list(each.results("test")) for each in (*runs, ngrams)]
    mixed = list(mixtures(results))
    assert [each.name for each in mixed] == ["mixture", "mixture, cache", "mixture, dynamic", "mixture, dynamic, cache"]
    for i, each in enumerate(mixed):
        components = [results[0][i], results[1][i], results[2][0]]
        assert set(each.values) == {"lstm", "transformer", "3-gram"}
        assert all(len(component.tuning_nll) == 150 for component in components)
        weights = mixture_weights(-torch.stack([component.tuning_nll for component in components]))
        probs = torch.stack([(-component.nll).exp() for component in components])
        torch.testing.assert_close((-each.nll).exp(), weights @ probs)
    for name, model in models.items():
        assert all(torch.equal(*pair) for pair in zip(before[name], model.parameters(), strict=True))


@pytest.mark.parametrize(("batch_size", "trim"), [(10, False), (7, False), (10, True), (1, True)])
def test_n_grams_score_the_tokens_of_the_models_in_their_order(data, batch_size, trim):
    config = EvaluationConfig(batch_size=batch_size, trim=trim, ngram=KneserNey(2), tune_tokens=100)
    run = Evaluator(config, make_model("lstm"), data, Fabric(accelerator="cpu", devices=1))
    ngrams = NGramEvaluator(config.ngram, config.tune_tokens, run.protocol, data)
    [of_model], [of_ngram] = (list(each.results("valid")) for each in (run, ngrams))
    assert torch.equal(of_ngram.scores.targets, of_model.scores.targets)
    text, corpus = data.corpus.valid, data.corpus
    in_order = KneserNey(2).train(corpus.train.numpy(), 30).log_probs(text.numpy(), corpus.vocabulary.eos_id)
    length = len(text) // batch_size
    kept = [i for i in range(length * batch_size) if i % length] if trim else range(len(text))
    assert of_ngram.nll.tolist() == pytest.approx((-in_order[list(kept)]).tolist())
