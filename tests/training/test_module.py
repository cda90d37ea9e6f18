"""The training step: state that flows, losses that count every token, numbers that are logged as used."""

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback, LambdaCallback

from lm.data.datamodule import TextDataModule
from lm.data.sources import folder
from lm.ops import IGNORE_INDEX
from lm.training.module import LitLanguageModel
from lm.training.schedules import cosine, divide_on_plateau
from tests.conftest import make_core


class Recorder(Callback):
    """Keeps what the step used and what it logged."""

    def __init__(self):
        self.used, self.logged, self.norms = [], [], []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.used.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.logged.append({name: value.item() for name, value in trainer.callback_metrics.items()})


@pytest.fixture
def data(text_folder, tmp_path):
    return TextDataModule(folder, text_folder, tmp_path, batch_size=4, eval_batch_size=3, bptt=8)


def make_module(data, core="lstm", scheduler=cosine, lr=1.0, dropout=0.0):
    from functools import partial

    from lm.models import CausalLM, SoftmaxHead, TokenEmbedding

    torch.manual_seed(0)
    vocabulary = data.corpus.vocabulary
    model = CausalLM(
        len(vocabulary),
        partial(TokenEmbedding, embedding_size=12),
        make_core(core, dropout=dropout, context=8),
        partial(SoftmaxHead, tie_weights=False),
    )
    options = {"warmup_steps": 3} if scheduler is cosine else {"factor": 4}
    return LitLanguageModel(
        model, vocabulary, {}, lambda p: torch.optim.SGD(p, lr=lr), lambda o, **k: scheduler(o, **k, **options)
    )


def make_trainer(**options):
    quiet = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return lightning.Trainer(
        devices=1,
        num_sanity_val_steps=0,
        enable_model_summary=False,
        **{**quiet, "log_every_n_steps": 1, "gradient_clip_val": 0.25, **options},
    )


def test_training_equals_a_plain_loop_over_the_windows(data):
    module, plain = make_module(data, lr=0.5), make_module(data, lr=0.5)
    recorder = Recorder()
    make_trainer(max_epochs=1, callbacks=[recorder], limit_val_batches=0).fit(module, data)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.5)
    schedule = cosine(optimizer, total_steps=len(data.train_dataloader()), warmup_steps=3)["scheduler"]
    hidden = None
    for window, logged, used in zip(data.train_dataloader(), recorder.logged, recorder.used, strict=True):
        optimizer.zero_grad()
        embedded = plain.model.embedding(window.inputs)
        output, hidden = plain.model.core.layers(embedded, hidden and tuple(part.detach() for part in hidden))
        logits = plain.model.head.decoder(output)
        loss = torch.nn.functional.cross_entropy(logits.view(-1, logits.size(-1)), window.targets.reshape(-1))
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.25)
        assert logged["train/loss"] == pytest.approx(loss.item(), rel=1e-5)
        assert logged["train/ppl"] == pytest.approx(loss.exp().item(), rel=1e-4)
        assert logged["train/grad_norm"] == pytest.approx(norm.item(), rel=1e-4)
        assert logged["train/lr"] == pytest.approx(optimizer.param_groups[0]["lr"])
        assert logged["train/lr"] == pytest.approx(used)
        optimizer.step()
        schedule.step()
    for ours, theirs in zip(module.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("core", ["lstm", "transformer"])
def test_validation_perplexity_is_over_every_token_of_the_split(data, core):
    module = make_module(data, core)
    [metrics] = make_trainer().validate(module, data, verbose=False)
    nats, state = 0.0, None
    for window in data.val_dataloader():
        log_probs, state = module.model(window.inputs, state)
        state = module.model.core.carry(state)
        for row, target in zip(log_probs.flatten(0, 1), window.targets.flatten(), strict=True):
            nats -= row[target].item() if target != IGNORE_INDEX else 0.0
    tokens = len(data.corpus.valid)
    assert metrics["val/tokens"] == tokens
    assert metrics["val/loss"] == pytest.approx(nats / tokens, rel=1e-5)
    assert metrics["val/ppl"] == pytest.approx(torch.tensor(nats / tokens).exp().item(), rel=1e-5)


def test_each_validation_begins_with_an_empty_state(data):
    module, trainer = make_module(data), make_trainer()
    first, second = (trainer.validate(module, data, verbose=False) for _ in range(2))
    assert first == second
    losses = []
    keep = LambdaCallback(
        on_validation_end=lambda trainer, _: losses.append(trainer.callback_metrics["val/loss"].item())
    )
    still = make_module(data, lr=0.0)
    make_trainer(max_epochs=2, limit_train_batches=2, callbacks=[keep]).fit(still, data)
    assert losses[0] == losses[1] == first[0]["val/loss"]


def test_validation_in_mid_epoch_leaves_training_as_it_is(data):
    def final_weights(**options):
        module = make_module(data, dropout=0.3)
        torch.manual_seed(1)
        make_trainer(max_epochs=2, limit_train_batches=12, **options).fit(module, data)
        return [parameter.detach() for parameter in module.parameters()]

    without, within = final_weights(limit_val_batches=0), final_weights(val_check_interval=3)
    assert all(torch.equal(a, b) for a, b in zip(without, within, strict=True))


def test_logged_interval_covers_all_its_windows(data):
    module, recorder, every = make_module(data), Recorder(), Recorder()
    options = {"max_epochs": 1, "limit_train_batches": 12, "limit_val_batches": 0}
    make_trainer(callbacks=[recorder], log_every_n_steps=4, **options).fit(module, data)
    make_trainer(callbacks=[every], **options).fit(make_module(data), data)
    mean = sum(logged["train/loss"] for logged in every.logged[4:8]) / 4
    assert recorder.logged[7]["train/loss"] == pytest.approx(mean, rel=1e-5)
    assert recorder.logged[8]["train/loss"] == recorder.logged[7]["train/loss"], "nothing is logged between"
    assert recorder.logged[7]["speed/tokens_per_second"] > 0


@pytest.mark.parametrize("every", [1, 2])
def test_learning_rate_is_divided_when_validation_does_not_improve(data, every):
    module, recorder, losses = make_module(data, scheduler=divide_on_plateau), Recorder(), []
    module.make_optimizer = lambda parameters: torch.optim.SGD(parameters, lr=1.0, maximize=True)
    keep = LambdaCallback(on_validation_end=lambda trainer, _: losses.append(trainer.callback_metrics["val/loss"]))
    options = {"limit_train_batches": 1, "check_val_every_n_epoch": every}
    make_trainer(max_epochs=6 * every, callbacks=[recorder, keep], **options).fit(module, data)
    expected = [1.0]
    for i, loss in enumerate(losses[:-1]):
        expected.append(expected[-1] if i == 0 or loss < min(losses[:i]) else expected[-1] / 4)
    assert recorder.used == [rate for rate in expected for _ in range(every)]
    assert expected[-1] < 1


def test_an_interval_covers_all_windows_of_accumulated_steps(data):
    module, recorder, every = make_module(data, lr=1e-9), Recorder(), Recorder()
    options = {"max_epochs": 1, "limit_train_batches": 8, "limit_val_batches": 0}
    make_trainer(callbacks=[recorder], log_every_n_steps=2, accumulate_grad_batches=2, **options).fit(module, data)
    make_trainer(callbacks=[every], **options).fit(make_module(data, lr=1e-9), data)
    mean = sum(logged["train/loss"] for logged in every.logged[:4]) / 4
    assert "train/loss" not in recorder.logged[2]
    assert recorder.logged[3]["train/loss"] == pytest.approx(mean, rel=1e-5)


@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_a_fused_optimizer_is_clipped_under_autocast(data, algorithm):
    module = make_module(data, core="gru", lr=1.0)  # not every CPU has an LSTM in bfloat16
    module.make_optimizer = lambda parameters: torch.optim.SGD(parameters, lr=1.0, fused=True)
    before = [parameter.detach().clone() for parameter in module.parameters()]
    trainer = make_trainer(
        precision="bf16-mixed",
        max_steps=1,
        gradient_clip_val=1e-3,
        gradient_clip_algorithm=algorithm,
        limit_val_batches=0,
    )
    trainer.fit(module, data)
    moved = torch.cat([(p.detach() - q).flatten() for p, q in zip(module.parameters(), before, strict=True)])
    size = moved.norm() if algorithm == "norm" else moved.abs().max()
    assert 0 < size <= 1e-3 * 1.01
