"""A loss that is not finite: read late on a GPU, but before it reaches a weight, a log or a checkpoint."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from lightning import Callback

from lm.data.datamodule import TextDataModule
from lm.data.sources import folder
from lm.errors import UserError
from lm.training.finite_loss import FiniteLoss
from tests.conftest import needs_gpu
from tests.training.test_module import make_module, make_trainer

OPTIMIZERS = {
    "sgd": partial(torch.optim.SGD, lr=0.5, fused=True),
    "momentum": partial(torch.optim.SGD, lr=0.5, momentum=0.9, fused=True),
    "adamw": partial(torch.optim.AdamW, lr=0.01, fused=True),
}
QUIET = {"limit_val_batches": 0, "max_epochs": 1, "log_every_n_steps": 100}


class Deferred(Callback):
    """Checks late, as on a GPU, and lets the loss of step `bad` be NaN; counts the steps."""

    def __init__(self, bad: int = 0, defer: bool = True) -> None:
        self.bad, self.defer, self.steps = bad, defer, 0

    def on_train_start(self, trainer, module):
        if self.defer:
            module.finite_loss.defer(trainer.optimizers[0])
        usual = module.model.training_nll

        def training_nll(*arguments):
            outputs, state = usual(*arguments)
            self.steps += 1
            return replace(outputs, nll=outputs.nll * (math.nan if self.steps == self.bad else 1)), state

        module.model.training_nll = training_nll


@pytest.fixture
def fitted(text_folder, tmp_path):
    """Trains a small model and returns it; `error` matches the UserError that is to end the run."""

    def fit(*callbacks, optimizer="sgd", error=None, **options):
        data = TextDataModule(folder, text_folder, tmp_path, batch_size=4, eval_batch_size=3, bptt=8)
        module = make_module(data)
        module.make_optimizer = OPTIMIZERS.get(optimizer, optimizer)
        trainer = make_trainer(callbacks=list(callbacks), **{**QUIET, **options})
        if error is None:
            trainer.fit(module, data)
        else:
            with pytest.raises(UserError, match=error):
                trainer.fit(module, data)
        return module

    return fit


def same_weights(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_late_check_names_the_first_bad_step_and_the_weights_are_those_before_it(fitted, optimizer):
    run = Deferred(bad=4)
    stopped = fitted(
        run, optimizer=optimizer, error=r"^The loss is nan at step 4 with a learning rate of", max_steps=10
    )
    assert run.steps == 10
    assert same_weights(stopped, fitted(optimizer=optimizer, max_steps=3))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_finite_losses_train_the_same_weights_however_they_are_checked(fitted, optimizer):
    deferred, each = (fitted(*run, optimizer=optimizer, max_steps=15) for run in ([Deferred()], []))
    assert same_weights(deferred, each)


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"log_every_n_steps": 6}, 6),
        ({"val_check_interval": 7, "limit_val_batches": 1}, 7),
        ({"accumulate_grad_batches": 2, "log_every_n_steps": 4}, 8),
        ({"max_steps": 9, "limit_val_batches": 1}, 9),
    ],
    ids=["the next log", "the next validation", "the log of accumulated gradients", "the last step"],
)
def test_losses_are_read_at(fitted, options, steps):
    run = Deferred(bad=2)
    fitted(run, error="The loss is nan at step", **options)
    assert run.steps == steps


def test_losses_are_read_before_a_checkpoint_is_written(fitted, tmp_path):
    class Save(Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            trainer.save_checkpoint(tmp_path / f"{batch_idx}.ckpt")

    fitted(Deferred(bad=3), Save(), error="The loss is nan at step 3")
    assert sorted(path.name for path in tmp_path.glob("*.ckpt")) == ["0.ckpt", "1.ckpt", "2.ckpt"]


@pytest.mark.parametrize("optimizer", [partial(torch.optim.SGD, lr=0.5), partial(torch.optim.AdamW, lr=0.01)])
def test_an_optimizer_that_cannot_skip_a_step_is_checked_at_once(fitted, optimizer):
    run = Deferred(bad=3)
    stopped = fitted(run, optimizer=optimizer, error="The loss is nan at step 3")
    assert run.steps == 3
    assert same_weights(stopped, fitted(optimizer=optimizer, max_steps=2))


def test_on_a_cpu_every_loss_is_checked_at_once(fitted):
    run = Deferred(bad=5, defer=False)
    fitted(run, error="The loss is nan at step 5")
    assert run.steps == 5


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_the_message_says_loss_step_and_learning_rate(loss):
    with pytest.raises(
        UserError, match=rf"^The loss is {loss} at step 7 with a learning rate of 20: lower optimizer\.lr"
    ):
        FiniteLoss().update(torch.tensor(loss), 7, 20.0)


@needs_gpu
def test_no_step_between_logs_waits_for_the_gpu(fitted):
    class Watch(Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            torch.cuda.set_sync_debug_mode("error" if 5 <= batch_idx < 15 else "default")

    fitted(Watch(), accelerator="gpu", max_steps=20)
    torch.cuda.set_sync_debug_mode("default")
