"""Averages of the weights: against plain means and recursions, in validation, in checkpoints, after a stop."""

from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from lm.errors import UserError
from lm.training.averaging import EMA, KEY, NTASGD, SWA
from scripts.evaluate import evaluate
from scripts.train import train
from tests.conftest import ADAM, composed, tiny_config
from tests.training.resume.test_resume import assert_same_end, crash, finished
from tests.training.test_module import data, make_module, make_trainer  # noqa: F401  (data is a fixture)

# three epochs of 3 steps, of 5 windows, validated in the middle of steps, too
FIT = {
    "max_epochs": 3,
    "limit_train_batches": 5,
    "accumulate_grad_batches": 2,
    "val_check_interval": 1,
    "limit_val_batches": 2,
}
STEPS = 9


class Record(Callback):
    """The weights that each step trained, in which validation scored, and its losses by step."""

    def __init__(self) -> None:
        self.trained, self.scored, self.losses = {}, {}, []

    def on_train_batch_end(self, trainer, module, *_):
        self.trained[trainer.global_step] = weights(module)

    def on_validation_batch_start(self, trainer, module, *_):
        self.scored[trainer.global_step] = weights(module)

    def on_validation_end(self, trainer, module):
        self.losses.append((trainer.global_step, trainer.callback_metrics["val/loss"].item()))


def weights(module) -> torch.Tensor:
    return torch.cat([weight.detach().flatten().clone() for weight in module.parameters()])


def fit(data, *callbacks, lr=1.0):  # noqa: F811
    record, module = Record(), make_module(data, lr=lr, dropout=0.3)
    torch.manual_seed(1)
    make_trainer(callbacks=[*callbacks, record], **FIT).fit(module, data)
    return record, module


@pytest.fixture
def plain(data):  # noqa: F811
    return fit(data)[0].trained


def test_training_is_as_without_and_validation_of_the_average(data, plain):  # noqa: F811
    record, module = fit(data, EMA(decay=0.6, every_n_steps=1))
    average = {1: plain[1]}
    for step in range(2, STEPS + 1):
        decay = min(0.6, step / (step + 9))
        average[step] = decay * average[step - 1] + (1 - decay) * plain[step]
    assert plain.keys() == record.trained.keys() == {0, *average}  # 0: in the midst of the first step
    assert all(torch.equal(record.trained[step], plain[step]) for step in plain)
    for step, expected in average.items():
        torch.testing.assert_close(record.scored[step], expected)
    assert torch.equal(weights(module), record.scored[STEPS])


def test_swa_is_the_plain_mean_of_the_last_part(data, plain):  # noqa: F811
    for start_ratio, every_n_steps, averaged in (0.3, 2, [4, 6, 8]), (0.3, None, [6, 9]), (0.0, 1, [*range(1, 10)]):
        record, module = fit(data, SWA(start_ratio, every_n_steps))
        torch.testing.assert_close(weights(module), torch.stack([plain[step] for step in averaged]).mean(0))
        before = averaged[0] - 1
        assert torch.equal(record.scored[before], plain[before]), "validation is of the trained weights until then"


def test_nt_asgd_is_the_plain_mean_of_the_weights_after_the_trigger(data):  # noqa: F811
    lr = 30.0  # at which the validation loss goes up and down
    plain, _ = fit(data, lr=lr)
    losses = [loss for _, loss in plain.losses]
    trigger = next(i for i, is_triggered in enumerate(authors_trigger(losses, 2)) if is_triggered)
    step, _ = plain.losses[trigger]
    assert 1 < step < STEPS - 1
    _, module = fit(data, NTASGD(non_monotone_interval=2, every_n_steps=1), lr=lr)
    mean = torch.stack([plain.trained[later] for later in range(step + 1, STEPS + 1)]).mean(0)
    torch.testing.assert_close(weights(module), mean)


def authors_trigger(losses: list[float], n: int) -> list[bool]:
    """Whether the average has begun after each validation, by the rule of awd-lstm-lm (Merity et al. 2018)."""
    logs, begun, t, big_t = [], [], 0, 0
    for k, v in enumerate(losses, start=1):
        if big_t == 0:
            if t > n and v > min(logs[: t - n]):
                big_t = k
            logs.append(v)
            t += 1
        begun.append(big_t > 0)
    return begun


@pytest.mark.parametrize("n", [0, 1, 5])
def test_the_trigger_is_that_of_the_authors_code(n):
    generator = torch.Generator().manual_seed(n)
    triggered = 0
    for _ in range(20):
        losses = (torch.linspace(2, 0, 15) + torch.rand(15, generator=generator)).tolist()
        callback, begun = NTASGD(n, every_n_steps=1), []
        for loss in losses:
            metrics = {"val/loss": torch.tensor(loss, dtype=torch.float64)}
            callback.on_validation_end(SimpleNamespace(sanity_checking=False, callback_metrics=metrics), None)
            begun.append(callback.has_begun)
        assert begun == authors_trigger(losses, n)
        triggered += begun[-1]
    assert triggered > 0


RUN = (
    *("model=lstm", *ADAM, "optimizer.lr=0.1", "model.head.tie_weights=true", "model.core.dropout=0.3"),
    *("trainer.max_epochs=2", "trainer.limit_train_batches=7", "trainer.accumulate_grad_batches=2", "test=false"),
    *("callbacks.resumable_checkpoint.every_n_steps=1", "trainer.val_check_interval=2", "trainer.precision=32-true"),
    "data.bptt_jitter=true",
)
OPTIONS = {
    "ema": ("averaging=ema", "averaging.decay=0.8"),
    "swa": ("averaging=swa", "averaging.start_ratio=0.2", "averaging.every_n_steps=1"),
    "nt_asgd": ("averaging=nt_asgd", "averaging.non_monotone_interval=0"),
}


@pytest.mark.parametrize("name", ["nt_asgd", *(pytest.param(name, marks=pytest.mark.slow) for name in ("ema", "swa"))])
def test_a_stopped_run_ends_bitwise_as_one_never_stopped_and_best_has_the_average(name, text_folder, tmp_path):
    overrides = (*RUN, *OPTIONS[name])
    metrics = train(tiny_config(text_folder, tmp_path / "whole", *overrides))
    whole = finished(tmp_path / "whole")
    assert 1 < whole[KEY]["count"] <= 8
    assert metrics["val/step"] > 4, "the best is an average"
    if name == "nt_asgd":
        assert whole["lm"]["config"]["scheduler"]["_target_"] == "lm.training.schedules.constant"
    average, trained = (part["model.embedding.weight"] for part in (whole["state_dict"], whole[KEY]["trained"]))
    assert not torch.equal(average, trained)

    stopped = tmp_path / "stopped"
    crash(text_folder, stopped, 9, *overrides)
    resumed = (*overrides, f"ckpt={stopped}/checkpoints/last.ckpt")
    assert train(tiny_config(text_folder, stopped, *resumed)) == metrics
    assert_same_end(finished(stopped), whole)

    best, options = (
        f"ckpt={tmp_path}/whole/checkpoints/best.ckpt",
        (f"data.root={text_folder}", "out=/dev/null", "fabric.precision=32-true"),
    )
    [scored] = evaluate(composed("evaluate", best, "split=valid", "evaluation.batch_size=3", *options))
    assert scored["loss"] == pytest.approx(metrics["val/loss"], rel=1e-6)


@pytest.mark.parametrize(
    ("averaging", "said"),
    [
        (SWA(start_ratio=0.5, every_n_steps=8), r"covers 1 update\(s\): lower averaging\.every_n_steps"),
        (NTASGD(non_monotone_interval=99, every_n_steps=1), "Averaging had not begun when training ended"),
    ],
)
def test_a_run_that_averages_hardly_any_weights_says_so(averaging, said, data):  # noqa: F811
    with pytest.warns(UserWarning, match=said):
        fit(data, averaging)


def test_what_cannot_be_averaged_is_refused():
    for precision, batches, message in (
        ("32-true", 0, "limit_val_batches=0 given, but the validation loss triggers"),
        ("bf16-true", None, "precision=bf16-true given, which rounds away"),
    ):
        trainer = SimpleNamespace(precision=precision, limit_val_batches=batches)
        with pytest.raises(UserError, match=message):
            NTASGD(5, every_n_steps=1).setup(trainer, None, "fit")
