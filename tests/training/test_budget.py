"""train_minutes: as many steps as this machine takes in that time, and the same number when resumed."""

import time

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from lightning import Callback
from omegaconf import OmegaConf

from lm.config.num_params import without_num_params
from lm.errors import UserError
from lm.training import budget
from scripts.train import train
from tests.conftest import composed, tiny_config
from tests.training.resume.test_resume import assert_same_end, crash, finished

SLEEP = 0.02


class Slow(Callback):
    """Stands for a machine of a known speed."""

    def on_train_batch_start(self, *_: object) -> None:
        time.sleep(SLEEP)


def test_a_step_takes_the_time_that_it_takes(text_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(budget, "measured_seconds", lambda minutes: 0.1)
    monkeypatch.setattr(budget.StepClock, "on_train_batch_start", Slow.on_train_batch_start, raising=False)
    for windows in (1, 3):
        config = without_num_params(tiny_config(text_folder, tmp_path, f"trainer.accumulate_grad_batches={windows}"))
        seconds = budget.step_seconds(config)
        assert windows * SLEEP < seconds < windows * (SLEEP + 0.1)


@pytest.mark.parametrize(
    "overrides",
    [
        ("trainer.max_epochs=1", "trainer.limit_train_batches=2"),
        ("data.bptt=1000", "trainer.max_epochs=1"),  # one window
        ("trainer.fast_dev_run=true",),
        ("+trainer.max_time=00:00:00:00",),
    ],
)
def test_the_speed_is_measured_however_short_the_training_would_be(overrides, text_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(budget, "measured_seconds", lambda minutes: 0.0)
    config = without_num_params(tiny_config(text_folder, tmp_path, *overrides))
    assert budget.step_seconds(config) > 0


@pytest.mark.parametrize(("minutes", "seconds"), [(0.1, 5), (2, 6), (10, 30), (150, 30)])
def test_the_longer_the_training_the_longer_its_speed_is_measured(minutes, seconds):
    assert budget.measured_seconds(minutes) == pytest.approx(seconds)


def test_a_run_has_the_steps_of_its_time_and_keeps_their_number_when_resumed(
    text_folder, tmp_path, capsys, monkeypatch
):
    def speed(seconds: float) -> None:
        monkeypatch.setattr(budget, "step_seconds", lambda config: seconds)

    timed = ("train_minutes=0.25", "scheduler=one_cycle")
    speed(0.5)
    train(tiny_config(text_folder, tmp_path / "timed", *timed))
    assert "train_minutes=0.25: 30 steps of 500.0 ms" in capsys.readouterr().out
    stored = finished(tmp_path / "timed")
    assert stored["global_step"] == stored["lm"]["config"]["trainer"]["max_steps"] == 30

    train(tiny_config(text_folder, tmp_path / "counted", timed[1], "trainer.max_epochs=-1", "trainer.max_steps=30"))
    assert_same_end(finished(tmp_path / "counted"), stored)

    crash(text_folder, tmp_path / "stopped", 13, *timed, "callbacks.resumable_checkpoint.every_n_steps=5")
    speed(0.1)
    train(tiny_config(text_folder, tmp_path / "stopped", *timed, f"ckpt={tmp_path}/stopped/checkpoints/last.ckpt"))
    assert_same_end(finished(tmp_path / "stopped"), stored)


def test_a_run_that_began_without_it_cannot_go_on_with_it(text_folder, tmp_path):
    train(tiny_config(text_folder, tmp_path, "trainer.max_steps=3", "test=false"))
    with pytest.raises(
        UserError, match=r"train_minutes=1 given, but the run of ckpt=.*last\.ckpt began with train_minutes=None"
    ):
        train(tiny_config(text_folder, tmp_path, "train_minutes=1", f"ckpt={tmp_path}/checkpoints/last.ckpt"))


@pytest.mark.parametrize(("devices", "several"), [(1, False), ([1], False), (2, True), ([0, 1], True), ("auto", True)])
def test_one_device_may_be_given_by_its_index(devices, several):
    assert budget.has_several_processes(OmegaConf.create({"devices": devices, "num_nodes": 1})) == several


@pytest.mark.parametrize("other", ["trainer.max_steps=9", "trainer.devices=2"])
def test_what_contradicts_it_is_refused(other, text_folder, tmp_path):
    with pytest.raises(UserError, match=f"train_minutes=1 given,? .*{other}"):
        train(tiny_config(text_folder, tmp_path, "train_minutes=1", other))


def test_epochs_on_the_command_line_contradict_it_and_those_of_a_recipe_do_not(monkeypatch):
    config = composed("train", "train_minutes=1", "trainer.max_epochs=80")
    budget.check_train_minutes(config)
    monkeypatch.setattr(
        budget, "task_overrides", lambda: OverridesParser.create().parse_overrides(["trainer.max_epochs=80"])
    )
    with pytest.raises(UserError, match=r"but also trainer\.max_epochs=80: give train_minutes=null with it"):
        budget.check_train_minutes(config)
