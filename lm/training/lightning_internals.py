"""The private state of Lightning's loops that we read or set: only here, each with the reason.

LOOPS below is https://github.com/Lightning-AI/pytorch-lightning/blob/2.6.6/src/lightning/pytorch/loops
"""

from typing import Any

from lightning import Trainer


def is_epoch_done(trainer: Trainer) -> bool:
    """Whether all windows of the epoch have been trained on; if not when the epoch ends, training ends, too.

    The counter is right in `on_train_epoch_end` and `on_train_end`; in `on_train_batch_end` it is one behind:
    https://github.com/Lightning-AI/pytorch-lightning/issues/18060
    """
    return trainer.fit_loop.epoch_loop.batch_progress.current.completed >= trainer.num_training_batches


def stop_after_this_step(trainer: Trainer) -> None:
    """On any request to stop, make the current optimizer step, complete or not yet, the last one.

    Lightning stops at once, even in the middle of accumulated gradients, which are lost, and validates before the
    state for resuming could be saved: LOOPS/training_epoch_loop.py#L130 (`done`).
    """
    fit_loop = trainer.fit_loop
    if trainer.should_stop and fit_loop._can_stop_early:
        trainer.should_stop = False
        fit_loop.epoch_loop.max_steps = trainer.global_step + fit_loop._should_accumulate()


def validate_last_weights(trainer: Trainer) -> None:
    """Validate as at the end of an epoch, with all callbacks, and log it under the last epoch and step.

    Lightning does not where training ends within an epoch, or with one that is not validated:
    https://github.com/Lightning-AI/pytorch-lightning/issues/9855 and
    https://github.com/Lightning-AI/pytorch-lightning/issues/4539
    Loggers take their step from `_batches_that_stepped`: https://github.com/Lightning-AI/pytorch-lightning/pull/11805
    """
    if not trainer.enable_validation:
        return
    epoch_loop, epochs = trainer.fit_loop.epoch_loop, trainer.fit_loop.epoch_progress.current
    completed, epochs.completed = epochs.completed, epochs.ready - 1
    epoch_loop._batches_that_stepped -= 1
    trainer.validating = True
    epoch_loop.val_loop.run()
    trainer.training = True
    epoch_loop._batches_that_stepped += 1
    epochs.completed = completed


def rewind_to_step_start(trainer: Trainer, checkpoint: dict[str, Any]) -> dict[str, int]:
    """Set the counters in a checkpoint to where the next step's `on_train_batch_start` finds them; returns its window.

    After the last step Lightning counts an epoch that has only begun as done, and the counters depend on what has
    ended the run: https://github.com/Lightning-AI/pytorch-lightning/issues/18060
    """
    loops = checkpoint["loops"]["fit_loop"]
    epochs, windows = loops["epoch_progress"], loops["epoch_loop.batch_progress"]
    if is_epoch_done(trainer):
        windows["current"]["completed"] = 0
    else:
        epochs["current"]["completed"] = epochs["total"]["completed"] = epochs["current"]["ready"] - 1
    for counts in (*epochs.values(), windows["current"], windows["total"]):
        counts["started"] = counts["processed"] = counts["completed"]
        counts["ready"] = counts["completed"] + 1
    for counts in epochs.values():
        counts["started"] = counts["ready"]
    windows["is_last_batch"] = False
    checkpoint["epoch"] = epochs["current"]["completed"]
    return {"epoch": checkpoint["epoch"], "position": windows["current"]["completed"]}


def correct_resumed_counters(trainer: Trainer) -> None:
    """In the first step of a resumed run, set the counters to those of an uninterrupted run.

    Lightning counts one too many, of which loggers and `val_check_interval` make use:
    https://github.com/Lightning-AI/pytorch-lightning/issues/19367
    And it would not ask a plateau schedule at the end of this epoch, because it takes itself for restarting until then:
    https://github.com/Lightning-AI/pytorch-lightning/pull/14702
    """
    epoch_loop = trainer.fit_loop.epoch_loop
    epoch_loop._batches_that_stepped = trainer.global_step
    epoch_loop.batch_progress.total.ready = epoch_loop.batch_progress.total.completed + 1
    trainer.fit_loop._restarting = False
