"""Options that are right by themselves and cannot work together are refused before training."""

import pytest

from lm.config.cli import ERROR_FILE
from lm.errors import UserError
from lm.training.run_folder import LOCK
from scripts.train import train
from tests.conftest import tiny_config


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer.limit_val_batches=0"], r"trainer\.limit_val_batches=0 given, but the schedule looks at the valid"),
        (
            ["trainer.check_val_every_n_epoch=null", "trainer.val_check_interval=5"],
            "n_epoch=None given, but",
        ),
        (["trainer.val_check_interval='00:00:01:00'"], "val_check_interval=00:00:01:00 given, but the schedule looks"),
        (["trainer.limit_train_batches=0"], "nothing to train"),
        (["trainer.max_steps=0"], "nothing to train"),
        (["trainer.max_epochs=0"], "nothing to train"),
        (["trainer.val_check_interval=1000"], r"val_check_interval=1000 given, but an epoch has \d+ windows"),
        (["trainer.accumulate_grad_batches=7", "trainer.limit_train_batches=6"], "7 given, but an epoch has 6 windows"),
        (["trainer.limit_test_batches=0.0001"], r"limit_test_batches=0\.0001 given, but that is less than one of"),
        (
            ["callbacks=early_stopping", "scheduler=constant", "trainer.limit_val_batches=0"],
            r"early_stopping\.monitor=val/loss with trainer\.limit_val_batches=0 given",
        ),
        (["callbacks.checkpoint.save_top_k=3"], "save_top_k=3 given, but filename=best names one file"),
        (["trainer.overfit_batches=3", "trainer.val_check_interval=4"], "4 given, but an epoch has 3 windows"),
        (["callbacks.checkpoint.monitor=val/los"], "monitor=val/los given, but it must be one of train/loss"),
        (["+callbacks.checkpoint.save_last=true"], "resumable_checkpoint writes last.ckpt"),
        (["+trainer.reload_dataloaders_every_n_epochs=1"], "the text never changes"),
    ],
)
def test_what_cannot_work_is_one_line_before_training(overrides, message, text_folder, tmp_path):
    with pytest.raises(UserError, match=message):
        train(tiny_config(text_folder, tmp_path, *overrides))
    assert not [path for path in tmp_path.iterdir() if path.name not in (LOCK, ERROR_FILE)]


def test_a_graceful_stop_after_the_resumable_checkpoint_is_refused_before_training(text_folder, tmp_path):
    overrides = ("~callbacks.graceful_stop", "+callbacks.stop._target_=lm.training.resume.GracefulStop")
    with pytest.raises(UserError, match=r"graceful_stop stands after .*: put graceful_stop first"):
        train(tiny_config(text_folder, tmp_path, *overrides))
    assert not (tmp_path / "checkpoints").exists()
