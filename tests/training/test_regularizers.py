"""Regularisers against their definitions; they move the weights and no reported loss."""

from functools import partial

import pytest
import torch
from hydra.utils import instantiate
from torch.nn import functional as F

from lm.config.overrides import check_command_line
from lm.data.datamodule import TextDataModule
from lm.data.sources import folder
from lm.models import SoftmaxHead, TrainingOutputs
from lm.training.checks import check_training_config
from lm.training.regularizers import (
    activation_regularization,
    l2,
    label_smoothing,
    temporal_activation_regularization,
    z_loss,
)
from scripts.train import train
from tests.conftest import ADAM, CORES, V, composed, make_model, mistake, tiny_config
from tests.training.test_module import Recorder, make_module, make_trainer

AR = partial(activation_regularization, alpha=2.0)
TAR = partial(temporal_activation_regularization, beta=3.0)


@pytest.fixture
def data(text_folder, tmp_path):
    return TextDataModule(folder, text_folder, tmp_path, batch_size=4, eval_batch_size=3, bptt=8)


def test_they_are_their_definitions():
    output = torch.tensor([[[1.0, 2.0]], [[3.0, -1.0]], [[0.0, 0.0]]])  # [T, B, H] = [3, 1, 2]
    dropped = 2 * output * torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]], [[1.0, 1.0]]])
    outputs = TrainingOutputs(output, dropped, None, None)
    assert AR(outputs, None).item() == pytest.approx(2 * (2**2 + 2**2) / 6)
    assert TAR(outputs, None).item() == pytest.approx(3 * (2**2 + 3**2 + 3**2 + 1**2) / 4)


def test_l2_is_the_weighted_sum_of_squares_and_its_gradient_that_of_twice_its_weight_decay():
    model = make_model("lstm", tie_weights=True)
    squares = sum(weight.detach().double().square().sum() for weight in model.parameters())
    penalty = l2(None, model, weight=0.01)
    assert penalty.item() == pytest.approx(0.01 * squares.item(), rel=1e-5)
    [gradient] = torch.autograd.grad(penalty, [model.head.decoder.weight])
    torch.testing.assert_close(gradient, 2 * 0.01 * model.head.decoder.weight)


def test_tar_of_a_single_step_is_zero():
    assert TAR(TrainingOutputs(torch.ones(1, 2, 3), None, None, None), None).item() == 0


@pytest.mark.parametrize("tie_weights", [False, True])
@pytest.mark.parametrize("core", CORES)
def test_they_see_the_outputs_before_and_after_dropout(core, tie_weights):
    model = make_model(core, dropout=0.5, tie_weights=tie_weights).train()
    tokens, targets = torch.randint(V, (2, 6, 3))
    outputs, _ = model.training_nll(tokens, targets)
    output, dropped = outputs.hidden, outputs.dropped
    assert output.shape == dropped.shape == (6, 3, 12)
    kept = dropped != 0
    assert 0 < kept.float().mean() < 1
    torch.testing.assert_close(dropped[kept], 2 * output[kept])
    torch.testing.assert_close(outputs.nll, model.head.nll(dropped, targets))
    assert outputs.targets is targets


def logits_and_outputs(*overrides, **values):
    """A small model in training mode and fp64, its outputs of a window, and the logits of all words from them."""
    model = make_model("gru", *overrides, **values).double().train()
    torch.nn.init.normal_(model.head.decoder.weight)
    tokens, targets = torch.randint(V, (2, 6, 3))
    outputs, _ = model.training_nll(tokens, targets)
    return model, outputs, model.head.decoder(model.head.projection(outputs.dropped)).flatten(0, 1)


def assert_same(model, ours, theirs):
    """Values, and the gradients of all weights."""
    torch.testing.assert_close(ours, theirs)
    parameters = list(model.parameters())
    torch.testing.assert_close(*(torch.autograd.grad(each, parameters, retain_graph=True) for each in (ours, theirs)))


SINGLE_SOFTMAX = {
    "softmax": {},
    "softmax, tied": {"tie_weights": True, "hidden_size": 10},
    "sampled": {"num_sampled": V},  # every word: exact
}


@pytest.fixture(params=SINGLE_SOFTMAX)
def single_softmax(request):
    return logits_and_outputs(f"model/head={request.param.split(',')[0]}", **SINGLE_SOFTMAX[request.param])


def test_label_smoothing_is_torchs_own(single_softmax):
    model, outputs, logits = single_softmax
    ours = outputs.nll.mean() + label_smoothing(outputs, model, epsilon=0.2)
    assert_same(model, ours, F.cross_entropy(logits, outputs.targets.flatten(), label_smoothing=0.2))


def test_z_loss_is_the_mean_square_of_the_log_partition_function(single_softmax):
    model, outputs, logits = single_softmax
    assert_same(model, z_loss(outputs, model, coefficient=0.3), 0.3 * logits.logsumexp(-1).square().mean())


def test_z_loss_of_the_sampled_softmax_is_of_the_estimated_partition_function():
    model, outputs, logits = logits_and_outputs("model/head=sampled", num_sampled=5)
    targets = outputs.targets.flatten()
    torch.manual_seed(3)
    words, corrections = model.head.sampler.candidates(targets)
    torch.manual_seed(3)
    outputs.nll = model.head.training_nll(outputs.dropped, outputs.targets)
    estimate = (logits[:, words] + corrections).logsumexp(-1)
    assert_same(model, z_loss(outputs, model, coefficient=1.0), estimate.square().mean())
    assert not torch.allclose(estimate, logits.logsumexp(-1))


def test_a_weight_of_zero_gives_the_gradients_without_a_penalty_to_the_bit():
    model, outputs, _ = logits_and_outputs("model/head=softmax")
    penalties = label_smoothing(outputs, model, epsilon=0.0) + z_loss(outputs, model, coefficient=0.0)
    losses = outputs.nll.mean(), outputs.nll.mean() + penalties
    without, with_them = (torch.autograd.grad(each, list(model.parameters()), retain_graph=True) for each in losses)
    assert all(map(torch.equal, without, with_them))


@pytest.mark.parametrize(("head", "name"), [("adaptive", "z_loss"), ("mixture", "label_smoothing")])
def test_a_head_of_several_softmaxes_refuses_them_before_training(head, name, tmp_path):
    options = f"model/head={head}", f"regularizer=[ar_tar,{name}]", f"run_dir={tmp_path}", "data=text"
    message = mistake(train, *options, f"data.root={tmp_path}")
    assert "Head given, but label smoothing and z-loss need a single softmax" in message


def plain_gradients(module, windows):
    """Of the mean over all windows' tokens, each penalty written out; the sum of the losses and of the penalties."""
    model, state, tokens = module.model, None, sum(window.targets.numel() for window in windows)
    nats = penalties = 0.0
    for inputs, targets in windows:
        output, state = model.core(model.embedding(inputs), state or model.core.initial_state(inputs.size(1)))
        state = model.core.carry(state)
        nll = -model.head.log_prob(output).gather(-1, targets[..., None]).sum()
        penalty = 2 * (output**2).mean() + 3 * ((output[1:] - output[:-1]) ** 2).mean()
        ((nll + targets.numel() * penalty) / tokens).backward()
        nats += nll.item()
        penalties += penalty.item() * targets.numel()
    return nats / tokens, penalties / tokens, [parameter.grad.clone() for parameter in model.parameters()]


@pytest.mark.parametrize("core", ["lstm", "transformer"])
@pytest.mark.parametrize("tie_weights", [False, True])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_gradient_has_them_and_the_reported_losses_do_not(data, core, tie_weights, accumulate):
    module, plain = (make_module(data, core, lr=1.0) for _ in range(2))
    for each in (module, plain):
        each.model.head = SoftmaxHead(12, each.model.embedding, tie_weights)
    plain.load_state_dict(module.state_dict())
    before = [parameter.detach().clone() for parameter in module.parameters()]
    module.regularizers = {"ar": AR, "tar": TAR}
    recorder = Recorder()
    trainer = make_trainer(
        max_epochs=1,
        limit_train_batches=accumulate,
        accumulate_grad_batches=accumulate,
        gradient_clip_val=None,
        limit_val_batches=0,
        callbacks=[recorder],
    )
    trainer.fit(module, data)
    loss, penalty, gradients = plain_gradients(plain, list(data.train_dataloader())[:accumulate])
    for old, new, gradient in zip(before, module.parameters(), gradients, strict=True):
        torch.testing.assert_close(old - new, gradient * recorder.used[0], rtol=1e-4, atol=1e-6)
    assert recorder.logged[-1]["train/loss"] == pytest.approx(loss, rel=1e-5)
    assert recorder.logged[-1]["train/ppl"] == pytest.approx(torch.tensor(loss).exp().item(), rel=1e-4)
    assert recorder.logged[-1]["train/penalty"] == pytest.approx(penalty, rel=1e-4)


def test_validation_and_test_report_the_negative_log_likelihood_alone(data):
    module = make_module(data)
    module.regularizers = {"ar": AR, "tar": TAR}
    for run in ("validate", "test"):
        [with_them] = getattr(make_trainer(), run)(module, data, verbose=False)
        [without] = getattr(make_trainer(), run)(make_module(data), data, verbose=False)
        assert with_them == without


def test_without_regularizers_there_is_no_penalty_to_log(data):
    recorder = Recorder()
    make_trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=0, callbacks=[recorder]).fit(
        make_module(data), data
    )
    assert "train/penalty" not in recorder.logged[-1]


class HalfLossHead(SoftmaxHead):
    def training_nll(self, hidden, targets):
        return self.nll(hidden, targets) / 2


def test_a_head_may_train_on_a_loss_of_its_own_and_is_evaluated_by_the_exact_one(data):
    exact, cheap = make_module(data), make_module(data)
    cheap.model.head = HalfLossHead(12, cheap.model.embedding, tie_weights=False)
    cheap.load_state_dict(exact.state_dict())
    losses = []
    for module in (exact, cheap):
        recorder = Recorder()
        make_trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=0, callbacks=[recorder]).fit(module, data)
        losses.append(recorder.logged[0])
    assert losses[1]["train/loss"] == pytest.approx(losses[0]["train/loss"] / 2)
    assert losses[1]["train/grad_norm"] == pytest.approx(losses[0]["train/grad_norm"] / 2, rel=1e-4)
    cheap.load_state_dict(exact.state_dict())
    validated = [make_trainer().validate(module, data, verbose=False)[0] for module in (exact, cheap)]
    assert validated[0] == validated[1]


def largest_output(outputs, model, scale):
    assert outputs.hidden.abs().amax().item() >= 0  # it needs values
    return scale * outputs.hidden.abs().amax()


def test_a_function_of_ones_own_is_added_on_the_command_line():
    own = "+regularizer.mine={_target_: tests.training.test_regularizers.largest_output, _partial_: true, scale: 3}"
    several = {"ar", "tar", "z_loss", "mine"}
    for option, expected in (("none", {"mine"}), ("ar_tar", several - {"z_loss"}), ("[ar_tar,z_loss]", several)):
        arguments = [f"regularizer={option}", own, "run_dir=x"]
        check_command_line("train", arguments)
        config = composed("train", *arguments)
        check_training_config(config)
        regularizers = instantiate(config.regularizer)
        assert regularizers.keys() == expected
        outputs = TrainingOutputs(torch.full((2, 1, 3), -2.0), None, None, None)
        assert regularizers["mine"](outputs, None).item() == 6


def test_the_option_ar_tar_trains(text_folder, tmp_path):
    options = ("regularizer=ar_tar", "regularizer.ar.alpha=0.1", "test=false", "trainer.max_epochs=1")
    metrics = train(tiny_config(text_folder, tmp_path, *options, *ADAM))
    assert metrics["val/ppl"] < 22  # of a uniform guess
    header = (tmp_path / "csv" / "metrics.csv").read_text().splitlines()[0]
    assert {"train/loss", "train/penalty"} <= set(header.split(","))
