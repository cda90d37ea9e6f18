"""Checks for combinations of options that a run cannot honour, made before any training."""

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lm.config.launch import check_shared_name, in_submitit_job
from lm.config.num_params import asked_params, without_num_params
from lm.config.plain_data import check_plain
from lm.config.validation import check, snapshot
from lm.data import Windows
from lm.errors import UserError
from lm.models import CausalLM, RecurrentCore, SoftmaxHead, TokenEmbedding, TrainingOutputs
from lm.ops import check_precision
from lm.training.budget import check_train_minutes, has_several_processes
from lm.training.optimizers import ModelParameters
from lm.training.width import width_multiple

if TYPE_CHECKING:
    from lm.data.datamodule import TextDataModule

LARGEST_VOCABULARY = 2**31 - 1  # token ids are int32
# what callbacks may monitor, see `lm.training.module`
METRICS = ("train/loss", "train/ppl", "train/lr", "train/grad_norm", "val/loss", "val/ppl")


def check_training_config(config: DictConfig) -> None:
    """Check the whole config of a training run; build model, optimizer and schedule, and call the regularisers, once.

    The model is built on the meta device, for the largest vocabulary, so its own checks run before any text is read.
    """
    num_params, _ = asked_params(config)
    config = without_num_params(config)
    check(config)
    if num_params is not None and "hidden_size" in config.model.core:
        # the given width, which `set_width` replaces, need not suit the heads
        config.model.core.hidden_size = width_multiple(config.model.core)
    _check_processes(config.trainer)
    check_train_minutes(config)
    path = OmegaConf.select(config, "model.embedding.pretrained")
    if path and config.ckpt is None and not Path(path).expanduser().is_file():
        raise UserError(f"model.embedding.pretrained={path} given, but there is no such file.")
    _check_trainer(config)
    _check_optimizer(config)
    with torch.device("meta"):
        model = instantiate(config.model, vocabulary_size=LARGEST_VOCABULARY)
    _check_regularizers(config, model)
    check_precision(model, config.trainer.precision, config.trainer.accelerator, "trainer.precision")
    check_plain(snapshot(config), "config")  # else no checkpoint of this run could be loaded


def check_windows(trainer: DictConfig, data: "TextDataModule") -> None:
    """Check the options that count windows against the number of them."""
    if trainer.fast_dev_run:
        return
    windows = _limited("train", trainer, data.train_dataloader())
    _limited("val", trainer, data.val_dataloader())
    _limited("test", trainer, data.test_dataloader())
    keys = ["accumulate_grad_batches"]
    if trainer.check_val_every_n_epoch is not None and trainer.limit_val_batches != 0:
        keys.append("val_check_interval")  # else it counts across epochs
    for key in keys:
        if isinstance(trainer[key], int) and trainer[key] > windows:
            raise UserError(
                f"trainer.{key}={trainer[key]} given, but an epoch has {windows} windows: use at most that."
            )


def _limited(split: str, trainer: DictConfig, windows: Windows) -> int:
    """The number of windows of a split that are used."""
    key = "overfit_batches" if trainer.get("overfit_batches") and split != "test" else f"limit_{split}_batches"
    limit = trainer[key]
    if isinstance(limit, float) and 0 < limit * len(windows) < 1:
        raise UserError(
            f"trainer.{key}={limit} given, but that is less than one of {len(windows)} windows: use a larger fraction."
        )
    if limit is None:
        return len(windows)
    return int(limit * len(windows)) if isinstance(limit, float) else min(limit, len(windows))


def _check_processes(trainer: DictConfig) -> None:
    """Check that several processes can agree on a run folder, and that a multirun has one per job."""
    if not HydraConfig.initialized():
        return
    check_shared_name()
    several = has_several_processes(trainer) or "ddp" in str(trainer.strategy)
    if several and HydraConfig.get().mode == RunMode.MULTIRUN and not in_submitit_job():
        raise UserError(
            f"trainer.devices={trainer.devices} given in a multirun, whose jobs run in one process each: use "
            "trainer=cpu or trainer=gpu with trainer.devices=1, hydra/launcher=submitit_slurm with "
            "hydra.launcher.tasks_per_node, or train one config at a time without -m."
        )


def _check_optimizer(config: DictConfig) -> None:
    """Build the optimizer and the schedule for a model of one unit, so that their own checks run."""
    embedding, head = partial(TokenEmbedding, embedding_size=1), partial(SoftmaxHead, tie_weights=False)
    core = partial(RecurrentCore, cell="rnn_tanh", hidden_size=1, num_layers=1, dropout=0.0)
    try:
        optimizer = instantiate(config.optimizer)(ModelParameters(CausalLM(1, embedding, core, head)))
    except UserError:
        raise
    except ValueError as error:  # torch's
        raise UserError(f"optimizer: {error}.") from error
    if config.optimizer.get("maximize"):
        raise UserError("optimizer.maximize=true given, but the loss is to fall: leave it out.")
    schedule = instantiate(config.scheduler)(optimizer, total_steps=100)
    if "monitor" in schedule:
        _check_validates_each_time(config.trainer)
    if str(config.trainer.precision) in ("16", "16-mixed") and config.optimizer.get("fused"):
        raise UserError(
            f"trainer.precision={config.trainer.precision} given, whose scaled gradients a fused optimizer lets nobody "
            "clip or measure: set optimizer.fused=false, or trainer.precision=bf16-mixed."
        )


def _check_regularizers(config: DictConfig, model: CausalLM) -> None:
    """Call the regularisers with a model on the meta device, so that their own checks run."""
    with torch.device("meta"):
        hidden, nll = torch.zeros(1, 1, model.core.output_size), torch.zeros(1, 1)
        outputs = TrainingOutputs(hidden, hidden, nll, nll.long())
        for each in instantiate(config.regularizer).values():
            with suppress(RuntimeError):  # one that needs values, which the meta device has not
                each(outputs, model)


def _check_trainer(config: DictConfig) -> None:
    """Check that there is something to train, and that what callbacks monitor and write will be there."""
    for key in ("max_steps", "max_epochs", "limit_train_batches"):
        if config.trainer[key] == 0:
            raise UserError(f"trainer.{key}=0 given, but then there is nothing to train: use at least 1.")
    if config.trainer.get("reload_dataloaders_every_n_epochs"):
        raise UserError("trainer.reload_dataloaders_every_n_epochs given, but the text never changes: leave it out.")
    for name, callback in config.callbacks.items():
        monitor = callback.get("monitor")
        if monitor and monitor not in METRICS:
            raise UserError(f"callbacks.{name}.monitor={monitor} given, but it must be one of {', '.join(METRICS)}.")
        stops = "EarlyStopping" in str(callback.get("_target_")) and str(monitor).startswith("val/")
        if stops and config.trainer.limit_val_batches == 0:
            raise UserError(
                f"callbacks.{name}.monitor={monitor} with trainer.limit_val_batches=0 given, but without validation "
                f"there is no {monitor}: remove '~callbacks.{name}', or validate."
            )
        one_file = not callback.get("enable_version_counter", True) and "{" not in str(callback.get("filename"))
        if one_file and callback.get("save_top_k", 1) not in (0, 1):
            raise UserError(
                f"callbacks.{name}.save_top_k={callback.save_top_k} given, but filename={callback.filename} names one "
                "file: give filename='best_{step}', too."
            )
        for key, value in (("save_last", True), ("filename", "last")):
            if "resumable_checkpoint" in config.callbacks and callback.get(key) == value:
                raise UserError(
                    f"callbacks.{name}.{key}={value} given, but resumable_checkpoint writes last.ckpt: leave it out."
                )


def _check_validates_each_time(trainer: DictConfig) -> None:
    """Check that the validation loss is new each time the schedule reads it."""
    for key, fails in {
        "limit_val_batches": trainer.limit_val_batches == 0,
        "check_val_every_n_epoch": trainer.check_val_every_n_epoch is None,
        "val_check_interval": not isinstance(trainer.val_check_interval, int | float),  # then it is a time
    }.items():
        if fails:
            raise UserError(
                f"trainer.{key}={trainer[key]} given, but the schedule looks at the validation loss after each epoch "
                "(or every trainer.check_val_every_n_epoch): choose another scheduler, such as constant."
            )
