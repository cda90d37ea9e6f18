"""A disk that is full of curves does not end a run."""

import json
from itertools import count

import pytest

from lm.errors import UserError
from scripts.train import train
from tests.conftest import tiny_config

WRITERS = {
    "tensorboard": "tensorboard.summary.writer.record_writer.RecordWriter.write",
    "csv": "lightning.fabric.loggers.csv_logs._ExperimentWriter.save",
}


@pytest.mark.parametrize("logger", WRITERS)
def test_a_log_that_fills_the_disk_is_one_warning_and_training_goes_on(
    text_folder, tmp_path, capsys, monkeypatch, logger
):
    calls = count()

    def full(*_):
        if next(calls):  # the first one begins the file
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(WRITERS[logger], full)
    metrics = train(tiny_config(text_folder, tmp_path, "trainer.max_epochs=1"))
    warnings = [line for line in capsys.readouterr().err.splitlines() if "No space left on device" in line]
    assert len([line for line in warnings if line.startswith("Warning: Cannot log to")]) == 1
    assert json.loads((tmp_path / "metrics.json").read_text())["test/ppl"] == pytest.approx(metrics["test/ppl"])


@pytest.mark.parametrize("logger", WRITERS)
def test_a_log_whose_folder_cannot_be_made_is_one_line_before_training(text_folder, tmp_path, logger):
    (tmp_path / logger).write_text("")
    with pytest.raises(UserError, match=r"Cannot log to .*: (Not a directory|File exists)"):
        train(tiny_config(text_folder, tmp_path, "trainer.max_epochs=1"))
