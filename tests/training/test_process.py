"""The settings of a process that trains."""

import warnings

from lightning.pytorch.loggers import CSVLogger

from lm.training.process import prepare_process


def test_a_run_that_is_resumed_twice_from_one_step_gets_no_warning_of_its_log(tmp_path):
    with warnings.catch_warnings(record=True) as caught:
        prepare_process()
        for _ in range(2):
            logger = CSVLogger(tmp_path, name=None, version="csv_20")
            logger.log_metrics({"loss": 1.0}, 20)
            logger.save()
    assert caught == []
