"""What a run cannot do with its Trainer's options: found before any training, though each option is right by itself."""

from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from lm.data import Windows
from lm.errors import UserError

if TYPE_CHECKING:
    from lm.data import TextDataModule

# what callbacks may monitor, see `lm.module`
METRICS = ("train/loss", "train/ppl", "train/lr", "train/grad_norm", "val/loss", "val/ppl")


def check_training(config: DictConfig, schedule_monitors: bool) -> None:
    """Check that there is something to train, and that what is monitored will be there.

    Raises:
        UserError: if not.
    """
    trainer = config.trainer
    for key in ("max_steps", "max_epochs", "limit_train_batches"):
        if trainer[key] == 0:
            raise UserError(f"trainer.{key}=0 given, but then there is nothing to train: use at least 1.")
    if trainer.get("reload_dataloaders_every_n_epochs"):
        raise UserError("trainer.reload_dataloaders_every_n_epochs given, but the text never changes: leave it out.")
    for name, callback in config.callbacks.items():
        if monitor := callback.get("monitor"):
            _check_monitor(f"callbacks.{name}.monitor", monitor)
        for key, value in (("save_last", True), ("filename", "last")):
            if "resume_point" in config.callbacks and callback.get(key) == value:
                raise UserError(
                    f"callbacks.{name}.{key}={value} given, but resume_point writes last.ckpt: leave it out."
                )
    if schedule_monitors:
        _check_validates_each_time(trainer)


def check_windows(trainer: DictConfig, data: "TextDataModule") -> None:
    """Check the options that count windows against the number of them.

    Raises:
        UserError: if one does not fit.
    """
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


def _check_monitor(key: str, monitor: Any) -> None:
    if monitor not in METRICS:
        raise UserError(f"{key}={monitor} given, but it must be one of {', '.join(METRICS)}.")


def _check_validates_each_time(trainer: DictConfig) -> None:
    """Check that each time the schedule looks at the validation loss there is a new one."""
    by_time = not isinstance(trainer.val_check_interval, int | float)
    for key, fails in {
        "limit_val_batches": trainer.limit_val_batches == 0,
        "check_val_every_n_epoch": trainer.check_val_every_n_epoch is None,
        "val_check_interval": by_time,
    }.items():
        if fails:
            raise UserError(
                f"trainer.{key}={trainer[key]} given, but the schedule looks at the validation loss after each epoch "
                "(or every trainer.check_val_every_n_epoch): choose another scheduler, such as constant."
            )


def _limited(split: str, trainer: DictConfig, windows: Windows) -> int:
    """How many of the windows of a split are used."""
    key = f"limit_{split}_batches"
    limit = trainer[key]
    if isinstance(limit, float) and 0 < limit * len(windows) < 1:
        raise UserError(
            f"trainer.{key}={limit} given, but that is less than one of {len(windows)} windows: use a larger share."
        )
    if limit is None:
        return len(windows)
    return int(limit * len(windows)) if isinstance(limit, float) else min(limit, len(windows))
