"""Optimizer steps over several windows, and over windows of varying length, against a plain loop."""

from functools import partial

import pytest
import torch

from lm.data.datamodule import TextDataModule
from lm.data.sources import folder
from lm.training.schedules import constant, cosine, one_cycle
from tests.training.test_module import Recorder, make_module, make_trainer

SCHEDULES = {
    "constant": constant,
    "cosine": partial(cosine, warmup_steps=3),
    "one_cycle": partial(one_cycle, warmup_ratio=0.3, div_factor=10, final_div_factor=100),
}
OPTIMIZERS = {"sgd": partial(torch.optim.SGD, lr=0.5, momentum=0.5), "adamw": partial(torch.optim.AdamW, lr=0.01)}


@pytest.fixture
def data(text_folder, tmp_path):
    return lambda jitter: TextDataModule(folder, text_folder, tmp_path, batch_size=4, bptt=20, bptt_jitter=jitter)


def module_for(data, schedule="constant", optimizer="sgd"):
    module = make_module(data)
    module.make_optimizer, module.make_scheduler = OPTIMIZERS[optimizer], SCHEDULES[schedule]
    return module


def plain_loop(module, windows, accumulate, total_steps, bptt):
    """Train on windows in groups of `accumulate`; returns the loss of each group and the learning rate it used."""
    optimizer = module.make_optimizer(module.parameters())
    scheduler = module.make_scheduler(optimizer, total_steps=total_steps)["scheduler"]
    losses, rates, state = [], [], None
    for start in range(0, len(windows), accumulate):
        group = windows[start : start + accumulate]
        optimizer.zero_grad()
        tokens = sum(window.targets.numel() for window in group)
        nats = 0.0
        for inputs, targets in group:
            log_probs, state = module.model(inputs, state)
            state = tuple(part.detach() for part in state)
            loss = -log_probs.gather(-1, targets[..., None]).sum()
            (loss / tokens).backward()
            nats += loss.item()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 0.25)
        rate = optimizer.param_groups[0]["lr"]
        if bptt is not None:
            length = sum(len(window.inputs) for window in group) / len(group)
            optimizer.param_groups[0]["lr"] = rate * length / bptt
        optimizer.step()
        optimizer.param_groups[0]["lr"] = rate
        scheduler.step()
        losses.append(nats / tokens)
        rates.append(rate)
    return losses, rates


@pytest.mark.parametrize(
    ("accumulate", "jitter", "limit", "schedule", "optimizer"),
    [
        (3, False, None, "constant", "sgd"),  # the last step has one window, shorter than the others
        (4, False, 6, "cosine", "sgd"),  # the last step has two windows of four
        (1, True, None, "one_cycle", "sgd"),
        (1, True, 7, "cosine", "adamw"),
        (3, True, 10, "one_cycle", "adamw"),
    ],
)
def test_each_step_follows_the_mean_loss_per_token_of_its_windows(data, accumulate, jitter, limit, schedule, optimizer):
    data = data(jitter)
    module, plain = (module_for(data, schedule, optimizer) for _ in range(2))
    windows = list(data.train_dataloader())[:limit]
    assert len(windows) % accumulate or accumulate == 1
    recorder = Recorder()
    trainer = make_trainer(
        max_epochs=1,
        callbacks=[recorder],
        accumulate_grad_batches=accumulate,
        limit_train_batches=limit,
        limit_val_batches=0,
    )
    trainer.fit(module, data)
    steps = -(-len(windows) // accumulate)
    losses, rates = plain_loop(plain, windows, accumulate, steps, bptt=20 if jitter else None)
    assert trainer.global_step == steps
    for ours, theirs in zip(module.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    logged = [*recorder.logged[accumulate - 1 :: accumulate], *recorder.logged[-1:]][:steps]
    assert [each["train/loss"] for each in logged] == pytest.approx(losses, rel=1e-4)
    assert [each["train/lr"] for each in logged] == pytest.approx(rates)


def test_the_gradient_norm_that_is_logged_is_that_of_the_mean_loss(data):
    data, recorder = data(False), Recorder()
    options = {"max_epochs": 1, "limit_val_batches": 0, "limit_train_batches": 2}
    make_trainer(callbacks=[recorder], accumulate_grad_batches=3, **options).fit(module_for(data), data)
    plain = module_for(data)
    windows, state = list(data.train_dataloader())[:2], None
    for inputs, targets in windows:
        nll, state = plain.model.nll(inputs, targets, state)
        state = plain.model.core.carry(state)
        (nll.mean() / 2).backward()
    norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in plain.parameters()])
    assert recorder.logged[-1]["train/grad_norm"] == pytest.approx(norm.item(), rel=1e-4)


def test_a_step_that_fails_leaves_the_learning_rate_of_the_schedule(data, monkeypatch):
    data = data(True)
    module, seen = module_for(data), []

    def fail(optimizer, gradient_clip_val, gradient_clip_algorithm):
        seen.append(optimizer.param_groups[0]["lr"])
        raise KeyError("a failure")

    monkeypatch.setattr(module, "configure_gradient_clipping", fail)
    trainer = make_trainer(max_epochs=1, limit_val_batches=0)
    with pytest.raises(KeyError):
        trainer.fit(module, data)
    assert seen != [0.5]
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.5
