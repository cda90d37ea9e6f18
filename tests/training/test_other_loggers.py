"""Loggers of other projects, offline."""

import sqlite3
import time

import pytest

from lm.errors import UserError
from lm.training import loggers
from scripts.train import train
from tests.conftest import tiny_config


@pytest.mark.slow
def test_wandb_gets_curves_and_hyperparameters_offline(text_folder, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    overrides = ["logger=wandb", "logger.wandb.offline=true", "trainer.max_epochs=1"]
    train(tiny_config(text_folder, tmp_path, *overrides))
    [stored] = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    names, end = (b"val/ppl", b"test/ppl", b"optimizer/lr", b"RecurrentCore"), time.monotonic() + 60
    while not all(name in stored.read_bytes() for name in names):  # their service writes on after the run has finished
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.slow
def test_a_failed_run_of_wandb_does_not_go_on_in_the_next(text_folder, tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    overrides = ["logger=wandb", "logger.wandb.offline=true", "trainer.max_epochs=1"]
    with monkeypatch.context() as patched:
        patched.setattr("lm.training.module.LitLanguageModel.training_step", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(tiny_config(text_folder, tmp_path / "failed", *overrides))
    assert wandb.run is None
    train(tiny_config(text_folder, tmp_path / "next", *overrides))
    assert len([*tmp_path.glob("*/wandb/offline-run-*")]) == 2


@pytest.mark.slow
def test_mlflow_gets_curves_and_hyperparameters_in_a_local_database(text_folder, tmp_path):
    pytest.importorskip("mlflow")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    overrides = ["logger=[default,mlflow]", f"logger.mlflow.tracking_uri={uri}", "trainer.max_epochs=1"]
    train(tiny_config(text_folder, tmp_path / "run", *overrides))
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        metrics = {name for [name] in database.execute("select distinct key from metrics")}
        params = dict(database.execute("select key, value from params"))
    assert {"train/ppl", "val/ppl", "test/ppl"} <= metrics
    assert params["core/cell"] == "lstm"
    assert (tmp_path / "run" / "csv" / "metrics.csv").is_file()


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_package_is_one_line(name, monkeypatch):
    monkeypatch.setattr(f"lightning.pytorch.loggers.{name}._{name.upper()}_AVAILABLE", False)
    with pytest.raises(UserError, match=rf"pip install -e '.\[{name}\]'"):
        getattr(loggers, name)()
