"""A model that has diverged: said as such, never the best, and no end of the run."""

import json
import math
import re

import pytest
import torch
from lightning import Callback

from lm import LanguageModel
from lm.errors import UserError
from lm.evaluation.perplexity import perplexity, verdict
from lm.score import Score
from lm.training.callbacks.fail_safe import FailSafe
from lm.training.module import LitLanguageModel
from lm.training.runs import read_run
from scripts.train import train
from tests.conftest import FIGURES, make_model, tiny_config

SHORT = ("model=lstm", "trainer.limit_train_batches=2", "trainer.limit_val_batches=1", "optimizer.lr=0.01")


def set_losses(monkeypatch, *losses: float) -> None:
    """Let the validations of a run find these losses, one after the other, in nats."""
    left = list(losses)
    counted = LitLanguageModel.on_validation_epoch_end

    def on_validation_epoch_end(module: LitLanguageModel) -> None:
        module.eval_loss.nats = torch.tensor(left.pop(0), dtype=torch.float64) * module.eval_loss.tokens
        counted(module)

    monkeypatch.setattr(LitLanguageModel, "on_validation_epoch_end", on_validation_epoch_end)


@pytest.mark.parametrize(
    ("losses", "best"),
    [
        ((120.0, 110.0, 800.0), 2),  # all of them infinite as perplexities in fp32
        ((3.0, math.nan, 2.0), 3),
        ((math.nan, 3.0, math.nan), 2),
        ((math.inf, 900.0, math.nan), 2),
    ],
)
def test_the_best_checkpoint_is_that_of_the_lowest_finite_loss(monkeypatch, text_folder, tmp_path, losses, best):
    set_losses(monkeypatch, *losses)
    metrics = train(tiny_config(text_folder, tmp_path, *SHORT, "trainer.max_epochs=3", "test=false"))
    assert metrics["val/step"] == 2 * best
    assert metrics["val/loss"] == pytest.approx(losses[best - 1])


def test_a_run_whose_every_loss_is_nan_tests_its_last_weights_and_says_so(monkeypatch, text_folder, tmp_path, capsys):
    set_losses(monkeypatch, math.nan)
    metrics = train(tiny_config(text_folder, tmp_path, *SHORT, "trainer.max_epochs=1"))
    assert (metrics["val/step"], metrics["test/step"]) == (2, 2)
    printed = capsys.readouterr().out
    assert re.search(r"validation after 2 steps \| loss +nan \| ppl +nan \| diverged", printed)
    assert "validation: diverged" in printed
    assert "best checkpoint: none: these are the last weights" in printed
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").write_text("{model: {}, data: {}}")
    assert json.loads((tmp_path / "metrics.json").read_text())["val/loss"] is None
    assert read_run(tmp_path, "run")["status"] == "failed: it has diverged, to a validation loss of nan"


def test_a_loss_of_thousands_of_nats_is_an_infinite_perplexity():
    assert perplexity(800.0) == math.inf
    assert Score(["w1"], [True], [-800.0], [30], []).perplexity == math.inf
    assert math.isnan(perplexity(math.nan))


@pytest.mark.parametrize(
    ("loss", "said"),
    [(math.nan, "diverged"), (math.inf, "diverged"), (800.0, "diverged"), (4.7, "worse than a uniform"), (4.6, "")],
)
def test_a_verdict_says_diverged_or_worse_than_a_uniform_guess(loss, said):
    assert verdict(loss, 100).startswith(said)
    assert bool(verdict(loss, 100)) == bool(said)


class Draws(FailSafe, Callback):
    """Fails as a figure of a diverged model does."""

    def on_validation_end(self, *_: object) -> None:
        raise OverflowError("math range error")

    on_train_batch_end = on_train_end = on_fit_start = on_validation_end


def test_an_error_in_a_figure_is_one_line_and_does_not_end_the_run(text_folder, tmp_path, capsys):
    options = (
        *SHORT,
        "trainer.max_epochs=2",
        "+callbacks.draws._target_=tests.training.test_divergence.Draws",
        "test=false",
    )
    assert train(tiny_config(text_folder, tmp_path, *options))["val/step"] == 4
    assert capsys.readouterr().err.count("Draws has failed, training goes on (OverflowError: math range error).") == 1


def test_no_callback_that_only_shows_something_may_end_a_run():
    from lm.training import callbacks
    from lm.training.callbacks.progress import PlainProgress, RichBar

    shows = (callbacks.SampleText, callbacks.LogProbHeatMap, callbacks.SurprisalText, callbacks.TensorBoardLayout)
    assert all(issubclass(each, FailSafe) for each in (*shows, PlainProgress, RichBar))
    assert {"log_prob_heat_map", "surprisal_text", "tensorboard_layout"} == set(FIGURES)


@pytest.mark.parametrize("weight", [math.nan, math.inf])
@pytest.mark.parametrize("task", ["generate", "beams", "score"])
def test_a_model_without_probabilities_is_refused_in_one_line(vocabulary, weight, task):
    model = make_model("lstm")
    with torch.no_grad():
        model.head.decoder.weight.fill_(weight)
    tasks = {
        "generate": lambda: LanguageModel(model, vocabulary).generate("w1", max_words=3, seed=0),
        "beams": lambda: LanguageModel(model, vocabulary).generate("w1", max_words=3, num_beams=2),
        "score": lambda: LanguageModel(model, vocabulary).score("w1 w2"),
    }
    with pytest.raises(UserError, match="log-probabilities are not finite: it has diverged"):
        tasks[task]()
