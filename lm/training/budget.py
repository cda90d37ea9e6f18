"""Sets `trainer.max_steps` to what `train_minutes` allows, so that the run can be repeated on any machine."""

import time
from typing import Any

import lightning
import torch
from hydra.utils import instantiate
from lightning import Callback, LightningModule, Trainer
from omegaconf import DictConfig

from lm.config.launch import task_overrides
from lm.config.validation import number_of_devices
from lm.errors import UserError
from lm.training.distributed import cluster
from lm.training.init_from import make_data
from lm.training.module import LitLanguageModel
from lm.training.resume.validation import Resumed
from lm.training.schedules import constant

WARMUP_STEPS = 5
MEASURED_STEPS = 10  # at least
MEASURED_SHARE = 0.05  # of the time to train
SHORTEST, LONGEST = 5.0, 30.0  # seconds to measure


def check_train_minutes(config: DictConfig) -> None:
    """Refuse what contradicts `train_minutes`."""
    if config.train_minutes is None:
        return
    given, trainer = f"train_minutes={config.train_minutes} given", config.trainer
    if trainer.max_steps != -1:
        raise UserError(f"{given}, but also trainer.max_steps={trainer.max_steps}: give one of them.")
    if any(each.key_or_group == "trainer.max_epochs" and each.value() != -1 for each in task_overrides()):
        raise UserError(f"{given}, but also trainer.max_epochs={trainer.max_epochs}: give train_minutes=null with it.")
    if has_several_processes(trainer):
        raise UserError(
            f"{given} with trainer.devices={trainer.devices} and trainer.num_nodes={trainer.num_nodes}, but speed is "
            "measured in one process: give trainer.max_steps instead."
        )


def has_several_processes(trainer: DictConfig) -> bool:
    """Whether a trainer's config asks for more than one device, or for as many as there are."""
    return number_of_devices(trainer.devices) != 1 or trainer.num_nodes != 1


def set_max_steps(config: DictConfig, resumed: Resumed | None) -> None:
    """Replace `trainer.max_steps` and `max_epochs` by as many steps as `train_minutes` allows, if it is not null.

    The speed is that of a few steps of a model that is thrown away. Validation is not counted. A resumed run keeps the
    number of steps that it began with, so that its learning rates stay the same.
    """
    minutes, trainer = config.train_minutes, config.trainer
    if minutes is None:
        return
    if resumed is None:
        seconds = step_seconds(config)
        trainer.max_steps = max(1, round(60 * minutes / seconds))
        print(f"train_minutes={minutes}: {trainer.max_steps:,} steps of {1e3 * seconds:.1f} ms", flush=True)
    else:
        if (then := resumed.config.get("train_minutes")) != minutes:
            raise UserError(
                f"train_minutes={minutes} given, but the run of ckpt={resumed.path} began with train_minutes={then}: "
                "give the same, or train_minutes=null trainer.max_epochs=-1 trainer.max_steps=STEPS for a longer run."
            )
        trainer.max_steps = resumed.config["trainer"]["max_steps"]
    trainer.max_epochs = -1


def step_seconds(config: DictConfig) -> float:
    """The mean time of a training step, in seconds, of the model, optimizer and text of a config."""
    lightning.seed_everything(config.seed, verbose=False)
    data, clock = make_data(config), StepClock(measured_seconds(config.train_minutes))
    silent = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "limit_val_batches": 0}
    # the clock ends it, not what would end the run
    endless = {"max_epochs": -1, "max_steps": 10**9, "max_time": None, "fast_dev_run": False}
    trainer = instantiate(config.trainer, **silent, **endless, callbacks=[clock], plugins=cluster())
    vocabulary = data.corpus.vocabulary
    model = instantiate(config.model, vocabulary_size=len(vocabulary))
    optimizer, regularizers = instantiate(config.optimizer), instantiate(config.regularizer)
    trainer.fit(LitLanguageModel(model, vocabulary, {}, optimizer, constant, regularizers), data)
    return clock.seconds / clock.steps


def measured_seconds(minutes: float) -> float:
    """How long to measure: on a machine that does other work, too, a few seconds may be quite unlike the rest."""
    return min(max(SHORTEST, 60 * minutes * MEASURED_SHARE), LONGEST)


class StepClock(Callback):
    """Times optimizer steps after a warmup, for `enough` seconds, and then stops training."""

    def __init__(self, enough: float) -> None:
        self.enough = enough
        self.steps, self.seconds = 0, 0.0

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step < WARMUP_STEPS or self.steps == trainer.global_step - WARMUP_STEPS > 0:
            return  # still warming up, or accumulating gradients
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize()
        self.steps = trainer.global_step - WARMUP_STEPS
        if self.steps == 0:
            self.started = time.perf_counter()
        self.seconds = time.perf_counter() - self.started
        trainer.should_stop = self.seconds >= self.enough and self.steps >= MEASURED_STEPS
