"""Whole evaluations: which combinations are scored, and how their values are chosen."""

import pytest
import torch
from lightning import Fabric

from lm.data.datamodule import TextDataModule
from lm.data.sources import folder
from lm.errors import UserError
from lm.evaluation import evaluator
from lm.evaluation.config import EvaluationConfig
from lm.evaluation.dynamic_evaluation import DynamicEvaluation, GradientStatistics
from lm.evaluation.evaluator import Evaluator
from lm.evaluation.neural_cache import NeuralCache
from lm.evaluation.scoring import Interpolation, score_tokens
from tests.conftest import make_model

CACHE = NeuralCache(50, 0.3, 0.1, {"theta": [0.1, 0.5], "interpolation_weight": [0.05, 0.2, 0.4]})
DYNAMIC = DynamicEvaluation(0.1, 0.01, GradientStatistics(4, 0.01), {"lr": [0.01, 0.3], "decay": [0.0, 0.1]})


@pytest.fixture
def evaluate(text_folder, vocabulary):
    data = TextDataModule(folder, text_folder, text_folder / "cache", bptt=8, vocabulary=vocabulary)
    fabric = Fabric(accelerator="cpu", devices=1)
    model = make_model("lstm", hidden_size=16)
    return lambda **options: Evaluator(EvaluationConfig(**options), model, data, fabric)


def test_each_method_is_scored_alone_and_with_the_others(evaluate):
    results = list(evaluate(temperature=1.1, cache=CACHE, dynamic=DYNAMIC).results("test"))
    static = ["model", "temperature", "cache", "temperature, cache"]
    moving = ["dynamic", "dynamic, temperature", "dynamic, cache", "dynamic, temperature, cache"]
    assert [result.name for result in results] == static + moving
    assert results[-1].values == {
        "temperature": 1.1,
        "theta": 0.3,
        "interpolation_weight": 0.1,
        "lr": 0.1,
        "decay": 0.01,
    }
    assert len({result.loss for result in results}) == 8
    [plain] = evaluate().results("test")
    assert torch.equal(plain.nll, results[0].nll)


def test_tuned_values_are_those_with_the_lowest_loss_on_the_validation_text(evaluate):
    run = evaluate(temperatures=[0.8, 1.0, 1.5], cache=CACHE, tune=True, tune_tokens=100)
    results = {result.name: result for result in run.results("test")}
    for name, count in (("temperature", 3), ("cache", 6), ("temperature, cache", 18)):
        tried = [row for row in run.tried if row["name"] == name]
        assert len(tried) == count
        best = min(tried, key=lambda row: row["loss"])
        assert results[name].values == {key: best[key] for key in best if key not in ("name", "loss")}
        values = [
            Interpolation(row.get("temperature", 1.0), row.get("theta"), row.get("interpolation_weight", 0.0))
            for row in tried
        ]
        corpus = run.data.corpus
        windows = run.protocol.windows(corpus.valid[:100], corpus.vocabulary.eos_id)
        scores = score_tokens(run.model, windows, [0.8, 1.0, 1.5], [0.1, 0.5], CACHE.window)
        assert [row["loss"] for row in tried] == pytest.approx([each.nll(scores).mean().item() for each in values])
        [again] = [row["loss"] for row, each in zip(tried, values, strict=True) if each == results[name].interpolation]
        assert again == best["loss"]
    assert results["cache"].loss < results["model"].loss


def test_dynamic_values_are_tuned_too_and_one_that_diverges_is_not_taken(evaluate):
    dynamic = DynamicEvaluation(0.1, 0.01, None, {"lr": [1e30, 0.5], "decay": [0.0]})
    run = evaluate(context=3, dynamic=dynamic, tune=True, tune_tokens=300, temperatures=[1.0])
    *_, last = run.results("test")
    assert (last.dynamic.lr, last.dynamic.decay) == (0.5, 0.0)
    assert [row["lr"] for row in run.tried if row["name"] == "dynamic"][:2] == [1e30, 0.5]


def test_tuning_never_reads_the_test_text(evaluate, monkeypatch):
    run = evaluate(temperatures=[0.8, 1.2], cache=CACHE, dynamic=DYNAMIC, tune=True)
    monkeypatch.setattr(run.data, "corpus", run.data.corpus._replace(test=None))
    run._chosen_interpolations(None)
    run._chosen_interpolations(run._chosen_dynamic())
    assert run.tried


def test_ctrl_c_while_values_are_chosen_leaves_what_was_scored_before(evaluate, monkeypatch):
    def track(windows, description, total, transient, disable):
        if "lr=" in description:
            raise KeyboardInterrupt
        return windows

    monkeypatch.setattr(evaluator, "track", track)
    run = evaluate(temperatures=[0.9, 1.1], dynamic=DYNAMIC, tune=True)
    assert [result.name for result in run.results("test")] == ["model", "temperature"]
    assert run.stopped


def test_tuned_values_at_the_end_of_their_candidates_are_named_but_not_where_the_range_ends():
    config = EvaluationConfig(temperatures=[0.9, 1.0, 1.1], cache=CACHE, dynamic=DYNAMIC, tune=True)
    chosen = {"temperature": 1.1, "theta": 0.1, "interpolation_weight": 0.2, "lr": 0.3, "decay": 0.0}
    assert config.at_the_ends([{}, chosen, chosen]) == [
        "temperature=1.1 is the highest of evaluation.temperatures=[0.9,1,1.1]: a higher one may be better.",
        "theta=0.1 is the lowest of evaluation.cache.candidates.theta=[0.1,0.5]: a lower one may be better.",
        "lr=0.3 is the highest of evaluation.dynamic.candidates.lr=[0.01,0.3]: a higher one may be better.",
    ]
    assert EvaluationConfig(temperatures=[1.1], tune=True).at_the_ends([{"temperature": 1.1, "A": 0.5}]) == []
    assert EvaluationConfig(temperatures=[0.9, 1.1]).at_the_ends([{"temperature": 1.1}]) == []


@pytest.mark.parametrize(
    "options", [{"temperature": 0.0}, {"temperatures": [-1.0]}, {"batch_size": 0}, {"stride": 0}, {"tune_tokens": 0}]
)
def test_values_out_of_range_are_refused(options):
    with pytest.raises(UserError, match="given, but it must be"):
        EvaluationConfig(**options)
