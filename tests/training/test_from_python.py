"""`lm.train`: a training run from Python."""

import json
import signal

import pytest
from hydra.core.hydra_config import HydraConfig

import lm
from lm.errors import UserError
from lm.training.report import read_runs
from lm.training.runs import read_curve
from tests.conftest import ADAM, small


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
    assert [*(tmp_path / "runs" / "train").iterdir()] == [done.folder]


def test_a_run_that_keeps_no_checkpoint_has_metrics_but_no_model(text_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = lm.train(*small(text_folder), "debug=one_batch")
    assert done.model is None
    assert done.metrics["val/ppl"] > 0


def test_model_and_metrics_are_of_the_best_checkpoint_of_a_callback_of_ones_own(text_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    worst = "{_target_:lightning.pytorch.callbacks.ModelCheckpoint,dirpath:mine,monitor:val/loss,mode:max}"
    options = ("trainer.max_epochs=2", "~callbacks.checkpoint", f"+callbacks.mine={worst}")
    done = lm.train(*small(text_folder), *ADAM, *options)
    [kept] = (tmp_path / "mine").iterdir()
    words = "w1 w2 w3"
    assert done.model.log_prob(words) == lm.LanguageModel.load(kept).log_prob(words)
    first, last = (point["val/loss"] for point in read_curve(done.folder))
    assert last < first
    assert done.metrics["val/loss"] == pytest.approx(first)
    assert kept.name == f"epoch=0-step={done.metrics['val/step']}.ckpt"


def test_ctrl_c_is_a_keyboard_interrupt_and_works_again_after_it(text_folder, tmp_path, monkeypatch):
    """Lightning ignores the signal from the first one on, and exits."""
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGINT)

    def interrupted(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise SystemExit(1)

    monkeypatch.setattr("lm.training.from_python.run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lm.train(*small(text_folder))
    assert signal.getsignal(signal.SIGINT) == before
    assert [*(tmp_path / "runs" / "train").iterdir()] == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("-m", "lm.train takes KEY=VALUE"),
        ("model.core.num_heads=3", "num_heads=3 given, but it must divide"),
        ("ckpt=nowhere", "No checkpoint at ckpt=nowhere"),
    ],
)
def test_a_mistake_is_a_user_error_and_leaves_no_folder(text_folder, tmp_path, monkeypatch, override, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        lm.train(*small(text_folder), "model=transformer", override)
    assert [*(tmp_path / "runs" / "train").glob("*")] == []


def test_a_mistaken_override_is_an_error_with_a_suggestion():
    with pytest.raises(UserError, match="did you mean model=lstm"):
        lm.train("model=lstn")
