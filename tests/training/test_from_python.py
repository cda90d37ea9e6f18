"""`lm.train`: a training run from Python."""

import json

import pytest
from hydra.core.hydra_config import HydraConfig

import lm
from lm.errors import UserError
from lm.training.report import read_runs
from tests.conftest import small


def test_a_run_from_python_is_what_the_script_makes_and_returns_its_model(text_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = lm.train(*small(text_folder), "trainer.max_epochs=1")
    assert done.folder.parent == tmp_path / "runs" / "train"
    assert json.loads((done.folder / "metrics.json").read_text())["test/ppl"] == done.metrics["test/ppl"]
    assert done.model.unknown("w1 w2") == []
    assert not HydraConfig.initialized()
    [row], _ = read_runs([tmp_path / "runs" / "train"])
    assert row["test/ppl"] == done.metrics["test/ppl"]
    again = lm.train(*small(text_folder), "trainer.max_epochs=2", f"ckpt={done.folder}")
    assert again.folder == done.folder
    assert again.metrics["val/ppl"] < done.metrics["val/ppl"]


def test_a_mistaken_override_is_an_error_with_a_suggestion():
    with pytest.raises(UserError, match="did you mean model=lstm"):
        lm.train("model=lstn")
