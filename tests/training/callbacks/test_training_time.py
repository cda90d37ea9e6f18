"""The time of training: without validation and what follows it, kept in the checkpoint, and with all ranks' tokens."""

import itertools
import json
import re
from types import SimpleNamespace

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lm.training.callbacks import TrainingTime
from lm.training.runs import read_curve
from scripts.train import train
from tests.conftest import tiny_config

MODULE = SimpleNamespace(device=torch.device("cpu"))
WINDOW = SimpleNamespace(targets=torch.zeros(5, 4))


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by a second at each look."""
    seconds = itertools.count()
    monkeypatch.setattr("lm.training.callbacks.training_time.time.perf_counter", lambda: float(next(seconds)))


def test_the_clock_stands_still_from_a_validation_to_the_next_step(clock):
    timer, trainer = TrainingTime(), SimpleNamespace(world_size=2)
    assert timer.metrics == {}
    for steps in (3, 2):
        for _ in range(steps):
            timer.on_train_batch_start()
            timer.on_train_batch_end(trainer, MODULE, None, WINDOW, 0)
        timer.on_validation_start(trainer, MODULE)
    timer.on_train_end(trainer, MODULE)
    # looks at the clock: start and stop, twice
    assert timer.metrics == {"minutes": 2 / 60, "tokens_per_second": 5 * 20 * 2 / 2, "train/tokens": 5 * 20 * 2}


def test_a_checkpoint_within_an_epoch_has_the_time_so_far(clock):
    timer, resumed = TrainingTime(), TrainingTime()
    timer.on_train_batch_start()
    timer.on_train_batch_end(SimpleNamespace(world_size=1), MODULE, None, WINDOW, 0)
    resumed.load_state_dict(timer.state_dict())
    assert resumed.metrics == {"minutes": 1 / 60, "tokens_per_second": 20, "train/tokens": 20}
    assert resumed.started is None


def test_a_resumed_run_adds_to_the_time_before(text_folder, tmp_path):
    def run(*overrides: str) -> dict:
        train(tiny_config(text_folder, tmp_path, "test=false", *overrides))
        return json.loads((tmp_path / "metrics.json").read_text())

    first = run("trainer.max_epochs=1")
    again = run("trainer.max_epochs=2", f"ckpt={tmp_path}")
    assert again["minutes"] > first["minutes"] > 0
    assert again["train/tokens"] == 2 * first["train/tokens"]
    assert (again["epochs"], again["steps"]) == (2, 2 * first["steps"])
    curve = read_curve(tmp_path)  # of two CSVs, one for each start
    assert [point["step"] for point in curve] == [first["steps"], again["steps"]]
    for point, results in zip(curve, (first, again), strict=True):
        assert point["train/tokens"] == results["train/tokens"]
        assert point["train/minutes"] == pytest.approx(results["minutes"], rel=1e-3)


def test_a_run_prints_and_stores_its_parameters_by_part(text_folder, tmp_path, capsys):
    train(tiny_config(text_folder, tmp_path, "trainer.max_epochs=1", "test=false", "model.head.tie_weights=true"))
    results = json.loads((tmp_path / "metrics.json").read_text())
    parts = {part: results[f"parameters/{part}"] for part in ("embedding", "core", "head")}
    assert results["parameters"] == sum(parts.values())
    sums = " + ".join(f"{part} {count:,}" for part, count in parts.items())
    printed = capsys.readouterr().out
    assert f"parameters: {results['parameters']:,} = {sums} (tied)\n" in printed
    assert printed.index("parameters: ") < printed.index("epoch   1")
    metadata = {}
    for file in (tmp_path / "tensorboard").glob("events.*"):  # of a folder the reader leaves out .10 after .9
        metadata |= EventAccumulator(str(file)).Reload().summary_metadata
    start = metadata["_hparams_/session_start_info"].plugin_data.content
    assert all(f"parameters{part}".encode() in start for part in ("", "/embedding", "/core", "/head"))
    names = re.findall(rb"[A-Za-z_/ ]{3,}", start)
    assert all(name.encode() in start for name in ("Learning rate", "Model", "Perplexity", "Seed"))
    assert b"optimizer/lr" not in names  # but once
