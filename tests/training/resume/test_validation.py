"""A run is resumed from a whole checkpoint, or refused in one line."""

import shutil

import pytest
import torch

from lm.errors import UserError
from scripts.train import train
from tests.conftest import ADAM, tiny_config

OPTIONS = ("model=lstm", *ADAM, "trainer.limit_train_batches=3", "test=false")


@pytest.fixture(scope="module")
def run(text_folder, tmp_path_factory):
    """A short run, whose folder no test changes."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    train(tiny_config(text_folder, folder, *OPTIONS, "trainer.max_epochs=1"))
    return folder


DAMAGE = {
    "no checksums": lambda stored: stored["resume"].pop("text"),
    "no process": lambda stored: stored["resume"].update(processes=[]),
    "a window before the first": lambda stored: stored["resume"]["windows"].update(position=-1),
    "random state that is none": lambda stored: stored["resume"]["processes"][0]["random"].update(torch=None),
    "no loops": lambda stored: stored["loops"]["fit_loop"].pop("epoch_progress"),
    "no optimizer": lambda stored: stored.update(optimizer_states=[]),
    "another optimizer": lambda stored: stored["optimizer_states"][0].update(param_groups=[]),
    "a learning rate that is a text": lambda stored: stored["optimizer_states"][0]["param_groups"][0].update(lr="x"),
    "no scheduler": lambda stored: stored.update(lr_schedulers=None),
    "a version that clears the screen": lambda stored: stored.update({"pytorch-lightning_version": "\x1b[2J"}),
}


@pytest.mark.parametrize("change", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_resumable_checkpoint_is_one_line(run, text_folder, tmp_path, change):
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    stored = torch.load(path, weights_only=True)
    change(stored)
    torch.save(stored, path)
    with pytest.raises(UserError, match=r"cannot be resumed \(") as caught:
        train(tiny_config(text_folder, tmp_path / "run", *OPTIONS, "trainer.max_epochs=2", f"ckpt={path}"))
    assert str(caught.value).isprintable()


def test_a_failure_after_the_first_step_of_a_resumed_run_is_not_blamed_on_its_checkpoint(
    run, text_folder, tmp_path, monkeypatch
):
    shutil.copytree(run, tmp_path / "run")

    def fail(*_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("lm.training.module.LitLanguageModel.on_validation_epoch_end", fail)
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    with pytest.raises(RuntimeError, match="a defect"):
        train(
            tiny_config(
                text_folder,
                tmp_path / "run",
                *OPTIONS,
                "trainer.max_epochs=2",
                f"ckpt={path}",
                "trainer.num_sanity_val_steps=0",
            )
        )


def test_a_config_that_no_checkpoint_could_hold_is_refused_before_training(text_folder, tmp_path):
    folder = tmp_path / "a\ttab"
    shutil.copytree(text_folder, folder)
    config = tiny_config(text_folder, tmp_path / "run", *OPTIONS)
    config.data.root = str(folder)
    with pytest.raises(UserError, match=r"config\.data\.root is .* must be plain text"):
        train(config)
    assert not (tmp_path / "run").exists()
