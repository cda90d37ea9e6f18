"""`callbacks=early_stopping`."""

import json

from scripts.train import train
from tests.conftest import tiny_config


def test_training_ends_when_the_validation_loss_has_stopped_falling(text_folder, tmp_path):
    patience = "callbacks.early_stopping.patience=1"
    flat = "callbacks.early_stopping.min_delta=100"  # no validation is better by so much
    short = ("trainer.limit_train_batches=3", "test=false")
    train(tiny_config(text_folder, tmp_path, "callbacks=early_stopping", patience, flat, *short))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["epochs"] == 2  # of four: the second validation is no better than the first
