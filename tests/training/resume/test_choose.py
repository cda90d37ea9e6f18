"""Which checkpoint a run is resumed from, and whether its config and its text are the same."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from lightning import Trainer
from omegaconf import DictConfig

from lm.config.cli import ERROR_FILE
from lm.errors import UserError
from lm.training.resume.choose import check_same_text, continue_run
from lm.training.runs import METRICS_FILE
from scripts.train import train
from tests.conftest import ADAM, tiny_config

OPTIONS = ("model=lstm", *ADAM, "trainer.max_epochs=1", "trainer.limit_train_batches=3", "test=false")


@pytest.fixture(scope="module")
def run(text_folder, tmp_path_factory) -> Path:
    """A short run, whose folder no test changes."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    train(tiny_config(text_folder, folder, *OPTIONS))
    return folder


def resumed(text_folder: Path, run: Path, *overrides: str) -> DictConfig:
    return tiny_config(text_folder, run, *OPTIONS, f"ckpt={run}/checkpoints/last.ckpt", *overrides)


def copied_text(text_folder: Path, folder: Path, **added: str) -> Path:
    """A copy of the text, with lines added to some splits."""
    folder.mkdir()
    for split in ("train", "valid", "test"):
        text = (text_folder / f"{split}.txt").read_text()
        (folder / f"{split}.txt").write_text(text + added.get(split, ""))
    return folder


def test_a_moved_text_and_cache_do_not_forbid_resuming(run, text_folder, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    folder = copied_text(text_folder, tmp_path / "moved")
    moved = (f"data.root={folder}", f"data.cache_dir={tmp_path}/cache", "trainer.max_epochs=2")
    assert "val/ppl" in train(resumed(text_folder, tmp_path / "run", *moved))


@pytest.mark.parametrize(
    ("added", "message"),
    [
        ({"train": "w3 w3 w3 w3 w3 w3 w3 w3 w3 w3 w3 w3\n" * 50}, "the same 22 words, but in another order of freq"),
        ({"train": "neu und neu\n"}, "a vocabulary of 22 words, now 24: 2 are new and 0 are gone"),
        ({"train": "<unk>\n"}, "another training text"),
        ({"valid": "w1 w2\n"}, "another validation text"),
    ],
)
def test_resuming_on_another_text_is_refused_before_training(run, text_folder, tmp_path, added, message):
    folder = copied_text(text_folder, tmp_path / "other", **added)
    with pytest.raises(UserError, match=message):
        train(resumed(text_folder, run, f"data.root={folder}"))
    assert not (run / ERROR_FILE).exists()
    assert (run / METRICS_FILE).exists()


def test_a_run_keeps_its_regularizers(run, text_folder):
    with pytest.raises(UserError, match=r"had another regularizer\.ar"):
        train(resumed(text_folder, run, "regularizer=ar_tar"))


def test_another_test_text_is_said_and_allowed(run, text_folder, tmp_path, capsys):
    from lm.data import Splits, load_corpus

    folder = copied_text(text_folder, tmp_path / "other", test="w1 w2\n")
    splits = Splits(*(folder / f"{split}.txt" for split in ("train", "valid", "test")))
    check_same_text(run / "checkpoints" / "last.ckpt", load_corpus(splits, tmp_path))
    assert "test text is not the one" in capsys.readouterr().err


def test_last_names_what_it_skips(run, text_folder, tmp_path, capsys):
    for name in ("old", "damaged"):
        shutil.copytree(run, tmp_path / name)
    last = tmp_path / "damaged" / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-100])
    new = (tmp_path / "new", *OPTIONS, "ckpt=last")
    assert continue_run(tiny_config(text_folder, *new)).path == tmp_path / "old" / "checkpoints" / "last.ckpt"
    assert f"{last} is damaged" in capsys.readouterr().err
    with pytest.raises(UserError, match=rf"newest, {last}, cannot be read"):
        continue_run(tiny_config(text_folder, *new, "seed=5"))
    last.unlink()
    with pytest.raises(UserError, match=r"newest, .*, had another data\.seed \(1111, now 5\)"):
        continue_run(tiny_config(text_folder, *new, "seed=5"))


def kept(run: Path) -> tuple[bytes, dict[str, float]]:
    """The best checkpoint of a run, and the entry that says what it was kept for."""
    best = run / "checkpoints" / "best.ckpt"
    return best.read_bytes(), torch.load(best, weights_only=True)["best"]


@pytest.fixture(scope="module")
def worsening(text_folder, tmp_path_factory) -> Path:
    """A run whose best checkpoint is better than all that resuming will make."""
    folder = tmp_path_factory.mktemp("runs") / "worsening"
    train(tiny_config(text_folder, folder, *OPTIONS))
    best = folder / "checkpoints" / "best.ckpt"
    stored = torch.load(best, weights_only=True)
    stored["best"]["val/loss"] = 0.125
    torch.save(stored, best)
    return folder


def test_a_moved_run_folder_keeps_its_best_checkpoint(worsening, text_folder, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(worsening, moved)
    before = kept(moved)
    metrics = train(resumed(text_folder, moved, "trainer.max_epochs=2"))
    assert kept(moved) == before
    assert (metrics["val/loss"], metrics["val/step"]) == (0.125, 3)
    assert str(worsening) not in str(torch.load(moved / "checkpoints" / "last.ckpt", weights_only=True))


def test_a_test_of_the_best_checkpoint_changes_no_costs_of_the_run(worsening, text_folder, tmp_path):
    """Testing restores the callbacks as they were at the best checkpoint."""
    shutil.copytree(worsening, tmp_path / "run")
    train(resumed(text_folder, tmp_path / "run", "trainer.max_epochs=2", "test=true"))
    first, second = (json.loads((folder / METRICS_FILE).read_text()) for folder in (worsening, tmp_path / "run"))
    assert second["test/step"] == first["steps"] == 3
    for name in ("steps", "train/tokens"):
        assert second[name] == 2 * first[name]
    assert second["minutes"] > first["minutes"]


def test_a_copy_of_a_checkpoint_beside_it_is_the_users(run, text_folder, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    checkpoints = tmp_path / "run" / "checkpoints"
    stored = torch.load(checkpoints / "best.ckpt", weights_only=True)
    stored["best"]["val/loss"] = 99.0  # which resuming improves on
    torch.save(stored, checkpoints / "best.ckpt")
    shutil.copy(checkpoints / "best.ckpt", checkpoints / "backup.ckpt")
    train(resumed(text_folder, tmp_path / "run", "trainer.max_epochs=2"))
    assert {path.name for path in checkpoints.iterdir()} == {"backup.ckpt", "best.ckpt", "last.ckpt"}
    backup = torch.load(checkpoints / "backup.ckpt", weights_only=True)
    assert kept(tmp_path / "run")[1]["val/step"] > backup["global_step"]


def test_results_of_before_are_gone_while_a_resumed_run_trains(run, text_folder, tmp_path, monkeypatch):
    shutil.copytree(run, tmp_path / "run")
    assert (tmp_path / "run" / METRICS_FILE).exists()
    monkeypatch.setattr(Trainer, "fit", lambda *args, **kwargs: sys.exit("killed"))
    with pytest.raises(SystemExit, match="killed"):
        train(resumed(text_folder, tmp_path / "run", "trainer.max_epochs=2"))
    assert not (tmp_path / "run" / METRICS_FILE).exists()


def test_a_run_whose_best_checkpoint_is_gone_or_damaged_keeps_its_next_best(run, text_folder, tmp_path):
    for name, damage in (("gone", Path.unlink), ("damaged", lambda path: path.write_bytes(b"PK"))):
        shutil.copytree(run, tmp_path / name)
        damage(tmp_path / name / "checkpoints" / "best.ckpt")
        metrics = train(resumed(text_folder, tmp_path / name, "trainer.max_epochs=2"))
        assert metrics["val/step"] == kept(tmp_path / name)[1]["val/step"] == 6


@pytest.mark.parametrize("name", ["backup", "checkpoints"])
def test_a_copied_checkpoint_begins_a_run_in_a_folder_of_its_own(run, text_folder, tmp_path, name):
    copy = tmp_path / name / "last.ckpt"
    copy.parent.mkdir()
    shutil.copy(run / "checkpoints" / "last.ckpt", copy)
    options = (*OPTIONS, f"ckpt={copy}", "trainer.max_epochs=2")
    train(tiny_config(text_folder, tmp_path / "new", *options))
    assert list(copy.parent.iterdir()) == [copy]
    assert kept(tmp_path / "new")[1]["val/step"] == 6
    with pytest.raises(UserError, match="holds checkpoints of another run"):
        train(tiny_config(text_folder, tmp_path / "new", *options))


def test_a_limit_that_a_run_has_passed_is_refused_before_training(text_folder, tmp_path):
    train(tiny_config(text_folder, tmp_path, "trainer.max_steps=12", "test=false"))
    with pytest.raises(
        UserError, match=r"trainer\.max_steps=5 given, but the run of ckpt=.* has done 12 steps already"
    ):
        train(tiny_config(text_folder, tmp_path, "trainer.max_steps=5", f"ckpt={tmp_path}/checkpoints/last.ckpt"))


def test_a_run_is_refused_fewer_epochs_than_it_has_done_before_its_text_is_read(text_folder, tmp_path):
    options = ("trainer.limit_train_batches=1", "trainer.limit_val_batches=1", "test=false")
    train(tiny_config(text_folder, tmp_path, *options, "trainer.max_epochs=2"))
    last = f"ckpt={tmp_path}/checkpoints/last.ckpt"
    with pytest.raises(
        UserError, match=r"trainer\.max_epochs=1 given, but the run of ckpt=.* has done 2 epochs already: give more"
    ):
        continue_run(tiny_config(text_folder, tmp_path, *options, "trainer.max_epochs=1", last))
    for limit in (2, -1, "null"):
        assert continue_run(tiny_config(text_folder, tmp_path, *options, f"trainer.max_epochs={limit}", last))
