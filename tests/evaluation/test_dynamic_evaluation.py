"""Dynamic evaluation against a slow version: a copy of the model whose weights are moved one number after another."""

import copy
from itertools import product

import pytest
import torch

from lm.errors import UserError
from lm.evaluation.dynamic_evaluation import DynamicEvaluation, GradientStatistics, gradient_rms
from lm.evaluation.protocol import Protocol
from lm.evaluation.scoring import score_tokens
from tests.conftest import CORES, V, make_model

LR, DECAY, EPSILON = 0.05, 0.1, 0.02
CHOSEN = ("lstm", "transformer")  # with all options


def slow_losses(model, windows, rms=None, normalization="weights"):
    """The loss of each word, scored before the weights move."""
    model, trained = copy.deepcopy(model), copy.deepcopy(model)
    losses, state = [], None
    if normalization == "tensors":  # Krause's program: gsum += mean of each parameter, / count
        mean = sum(root.sum() / root.numel() for root in rms) / len(rms)
    elif rms:
        mean = sum(root.sum() for root in rms) / sum(root.numel() for root in rms)
    for inputs, targets in windows:
        model.zero_grad()
        log_probs, state = model(inputs, state)
        rows = log_probs[len(inputs) - len(targets) :].gather(-1, targets[..., None]).squeeze(-1)
        losses.append(-rows.detach().flatten())
        (-rows.mean()).backward()
        state = model.core.carry(state)
        for i, (parameter, start) in enumerate(zip(model.parameters(), trained.parameters(), strict=True)):
            if rms is None:
                step = -LR * parameter.grad + DECAY * (start - parameter)
            else:
                pull = torch.minimum(DECAY * rms[i] / mean, torch.ones(()))
                step = -LR * parameter.grad / (rms[i] + EPSILON) + pull * (start - parameter)
            parameter.data = parameter.data + step.detach()
    return torch.cat(losses)


@pytest.mark.parametrize(
    ("core_name", "normalization", "tie_weights"),
    [(core, *each) for core in CHOSEN for each in product([None, "weights", "tensors"], [False, True])]
    + [(core, "weights", False) for core in CORES if core not in CHOSEN],
)
def test_losses_are_those_of_the_slow_version(core_name, normalization, tie_weights):
    with_statistics = normalization is not None
    model = make_model(core_name, tie_weights=tie_weights, context=6).double()  # steps of lr / epsilon amplify rounding
    text = torch.randint(8, (30,))
    protocol = Protocol.for_core(model.core, batch_size=1, context=6)
    windows = protocol.windows(text, eos_id=0)
    rms = (
        gradient_rms(model, [(w.inputs[-len(w.targets) :], w.targets) for w in windows[:3]])
        if with_statistics
        else None
    )
    statistics = GradientStatistics(3, EPSILON, normalization) if with_statistics else None
    with DynamicEvaluation(LR, DECAY, statistics).adapting(model, rms) as step:
        found = score_tokens(model, windows, step=step)
    expected = slow_losses(model, windows, rms, normalization)
    torch.testing.assert_close(-found.log_probs[1.0], expected, rtol=1e-6, atol=1e-6)


def test_the_words_of_a_text_that_repeats_itself_are_learned():
    model = make_model("lstm")
    protocol = Protocol.for_core(model.core, batch_size=1)
    windows = protocol.windows(torch.arange(5).repeat(200), eos_id=0)
    with DynamicEvaluation(5.0, 0.0).adapting(model, None) as step:
        losses = -score_tokens(model, windows, step=step).log_probs[1.0]
    assert losses[-50:].mean() < 2 < 3 < losses[:35].mean()  # 1.6 for five equally likely words


def test_trained_weights_come_back_and_tied_ones_stay_tied():
    model = make_model("lstm", tie_weights=True)
    before = copy.deepcopy(model.state_dict())
    protocol = Protocol.for_core(model.core, batch_size=2)
    with DynamicEvaluation(LR, DECAY).adapting(model, None) as step:
        score_tokens(model, protocol.windows(torch.randint(V, (90,)), eos_id=0), step=step)
        assert not torch.equal(model.embedding.weight, before["embedding.weight"])
        assert model.head.decoder.weight is model.embedding.weight
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, before[name]), name


def test_statistics_are_those_of_autograd_window_by_window():
    model = make_model("gru")
    windows = [(torch.randint(V, (4, 2)), torch.randint(V, (4, 2))) for _ in range(3)]
    squares, state = [torch.zeros_like(p) for p in model.parameters()], None
    for inputs, targets in windows:
        model.zero_grad()
        log_probs, state = model(inputs, state)
        state = state.detach()
        (-log_probs.gather(-1, targets[..., None]).mean()).backward()
        squares = [square + p.grad**2 / 3 for square, p in zip(squares, model.parameters(), strict=True)]
    for found, square in zip(gradient_rms(model, windows), squares, strict=True):
        torch.testing.assert_close(found, square.sqrt(), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("values", [{"lr": 0.0}, {"decay": -0.1}, {"decay": 1.0}, {"candidates": {"lr": [-1.0]}}])
def test_values_out_of_range_are_refused(values):
    with pytest.raises(UserError, match="given, but it must be"):
        DynamicEvaluation(**({"lr": 0.1, "decay": 0.1} | values))


def test_an_unknown_normalization_is_refused():
    with pytest.raises(UserError, match="normalization=mean given, but it must be one of weights, tensors"):
        GradientStatistics(3, EPSILON, "mean")
