"""How training ends: between two optimizer steps, and with a validation of the last weights."""

from lightning import Trainer


def stop_after_this_step(trainer: Trainer) -> None:
    """Turn a wish to stop, whoever had it, into the last step: the one that is done, or half done, now.

    Lightning would stop in the middle of accumulated gradients, and would validate at once, before the state that a
    longer run needs could be saved.
    """
    fit_loop = trainer.fit_loop
    if trainer.should_stop and fit_loop._can_stop_early:
        trainer.should_stop = False
        fit_loop.epoch_loop.max_steps = trainer.global_step + fit_loop._should_accumulate()


def is_epoch_done(trainer: Trainer) -> bool:
    """Whether all windows of the epoch have been trained on; where not, and the epoch ends, so does training."""
    return trainer.fit_loop.epoch_loop.batch_progress.current.completed >= trainer.num_training_batches


def validate_last_weights(trainer: Trainer) -> None:
    """Validate as Lightning does at the end of an epoch, with all callbacks, for the step that was done last."""
    if not trainer.enable_validation:
        return
    epoch_loop, epochs = trainer.fit_loop.epoch_loop, trainer.fit_loop.epoch_progress.current
    completed = epochs.completed
    # the epoch and the step under which callbacks and loggers file it
    epochs.completed = epochs.ready - 1
    epoch_loop._batches_that_stepped -= 1
    trainer.validating = True
    epoch_loop.val_loop.run()
    trainer.training = True
    epoch_loop._batches_that_stepped += 1
    epochs.completed = completed
