"""What takes minutes: the real corpus, a search."""

import csv
import json

import pytest

from tests.conftest import run, small, tiny_config

pytestmark = pytest.mark.slow


def test_the_examples_recipe_with_fewer_units_learns_wikitext2_and_scores_all_of_it(wikitext2, tmp_path):
    arguments = ["experiment=pytorch_examples/lstm", f"data.root={wikitext2}", "trainer.max_epochs=1"]
    arguments += ["model.embedding.embedding_size=16", "model.core.hidden_size=16"]
    arguments += ["trainer.limit_train_batches=100", "trainer.log_every_n_steps=50", "hydra.run.dir=run"]
    done = run("train", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["val/tokens"] == 217_646
    assert metrics["test/tokens"] == 245_569
    assert metrics["test/ppl"] < 2500


def test_optuna_searches_and_leaves_its_table(text_folder, tmp_path):
    pytest.importorskip("optuna")
    arguments = small(text_folder, "hparams_search=optuna", "hydra.sweeper.n_trials=3", "trainer.max_epochs=1")
    done = run("train", "-m", *arguments, "hydra.sweep.dir=sweep", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((tmp_path / "sweep" / "sweep.csv").open()))
    assert len(rows) == 3
    assert len({row["overrides"] for row in rows}) == 3
    best = json.loads((tmp_path / "sweep" / rows[0]["job"] / "metrics.json").read_text())
    assert best["val/ppl"] == pytest.approx(min(float(row["val/ppl"]) for row in rows))
    assert not tiny_config(text_folder, tmp_path, "hparams_search=optuna").test


def test_a_search_survives_trials_that_fail(text_folder, tmp_path):
    pytest.importorskip("optuna")
    arguments = small(text_folder, "hparams_search=optuna", "hydra.sweeper.n_trials=2", "trainer.max_epochs=1")
    arguments += ["hydra.sweeper.params={optimizer.lr: 'choice(1, -1)'}", "seed=4", "hydra.sweep.dir=sweep"]
    done = run("train", "-m", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((tmp_path / "sweep" / "sweep.csv").open()))
    assert len(rows) == 2
    assert {row["status"] for row in rows} == {
        "done",
        "failed: optimizer.lr=-1 given, but it must be above 0 and at most 1000000.",
    }


def test_a_search_with_a_stored_study_goes_on_where_it_ended(text_folder, tmp_path):
    optuna = pytest.importorskip("optuna")
    arguments = small(text_folder, "hparams_search=optuna", "hydra.sweeper.n_trials=1", "trainer.max_epochs=1")
    arguments += ["hydra.sweeper.storage=sqlite:///study.db", "hydra.sweeper.study_name=lm"]
    for part in ("first", "second"):
        done = run("train", "-m", *arguments, f"hydra.sweep.dir={part}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    study = optuna.load_study(study_name="lm", storage=f"sqlite:///{tmp_path}/study.db")
    assert len(study.trials) == 2
    losses = [
        json.loads((tmp_path / part / "0" / "metrics.json").read_text())["val/ppl"] for part in ("first", "second")
    ]
    assert [trial.value for trial in study.trials] == pytest.approx(losses)
