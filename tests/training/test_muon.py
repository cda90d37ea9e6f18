"""Muon and AdamW as one optimizer: against the two, against the iteration itself, and after a stop."""

import copy
from functools import partial

import pytest
import torch

from lm.training import muon
from lm.training.muon import COEFFICIENTS, Muon, gram_newton_schulz, newton_schulz, orthogonalized
from lm.training.optimizers import ModelParameters
from lm.training.schedules import cosine, one_cycle, one_cycle_flat
from tests.conftest import make_model
from tests.training.test_optimizers import assert_same_weights, train_steps

SCHEDULES = {
    "cosine": partial(cosine, warmup_steps=2),
    "one_cycle": partial(one_cycle, warmup_ratio=0.3, div_factor=10, final_div_factor=100),
    "one_cycle_flat": partial(
        one_cycle_flat,
        warmup_ratio=0.2,
        flat_ratio=0.4,
        annealing_ratio=0.2,
        div_factor=10,
        final_div_factor=10,
        base_momentum=0.7,
        max_momentum=0.8,
    ),
}


def is_hidden(name: str, parameter: torch.Tensor) -> bool:
    return name.startswith("core") and parameter.ndim == 2


@pytest.mark.parametrize("decay", ["all", "matrices"])
@pytest.mark.parametrize("tied", [False, True])
def test_with_products_in_bfloat16_it_is_torchs_muon_and_adamw_side_by_side(monkeypatch, decay, tied):
    monkeypatch.setattr(muon, "fast_precision", lambda _: "bf16-mixed")
    model, plain = (make_model("lstm", tie_weights=tied) for _ in range(2))
    ours = Muon(ModelParameters(model), lr=0.01, momentum=0.9, weight_decay=0.1, decay=decay, fused=True)
    named = dict(plain.named_parameters())
    hidden = [p for name, p in named.items() if is_hidden(name, p)]
    rest = {name: p for name, p in named.items() if not is_hidden(name, p)}
    plain_parts = [torch.optim.Muon(hidden, 0.01, 0.1, 0.9, adjust_lr_fn="match_rms_adamw")]
    for name, p in rest.items():
        decays = decay == "all" or (p.ndim == 2 and name != "embedding.weight")
        plain_parts.append(torch.optim.AdamW([p], 0.01, weight_decay=0.1 if decays else 0.0, fused=True))
    for _ in range(4):
        train_steps(model, ours, steps=1)
        train_steps(plain, plain_parts[0], steps=1)
        for each in plain_parts[1:]:
            each.step()
            each.zero_grad()
    assert_same_weights(model, plain)


@pytest.mark.parametrize("shape", [(24, 8), (8, 24), (16, 16)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.05)])
def test_orthogonalizing_applies_the_polynomial_to_the_singular_values_and_keeps_the_vectors(shape, dtype, tolerance):
    matrix = torch.randn(shape)
    left, singular, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    singular = singular / singular.norm()
    for _ in range(5):
        singular = sum(c * singular**power for c, power in zip(COEFFICIENTS, (1, 3, 5), strict=True))
    expected = left @ singular.diag() @ right
    result = orthogonalized(matrix, 5, dtype)
    assert result.dtype == dtype
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=tolerance)


def test_iterating_on_the_gram_matrix_changes_no_more_than_rounding_does():
    """With singular values over six orders of magnitude, as a gradient's are."""
    left, right = (torch.linalg.qr(torch.randn(n, 40, dtype=torch.float64)).Q for n in (40, 160))
    matrix = left @ torch.logspace(0, -6, 40, dtype=torch.float64).diag() @ right.T
    exact = newton_schulz(matrix, 5)
    assert torch.allclose(gram_newton_schulz(matrix, 5), exact, rtol=0, atol=1e-9)
    in_fp32 = gram_newton_schulz(matrix.float(), 5).double()
    assert (in_fp32 - exact).norm() < 1e-3 * exact.norm()


@pytest.mark.parametrize(("precision", "dtype"), [("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)])
def test_products_are_in_the_precision_that_the_machine_is_fast_in(monkeypatch, precision, dtype):
    monkeypatch.setattr(muon, "fast_precision", {"cpu": precision}.get)
    seen = []

    def spied(matrix, steps, dtype):
        seen.append(dtype)
        return orthogonalized(matrix, steps, dtype)

    monkeypatch.setattr(muon, "orthogonalized", spied)
    model = make_model("lstm")
    train_steps(model, Muon(ModelParameters(model)), steps=1)
    assert {*seen} == {dtype}


def test_a_step_has_the_size_of_adamw_and_nearly_orthogonal_rows_or_columns():
    model = make_model("transformer", hidden_size=16, feedforward_size=48)
    before = copy.deepcopy(model)
    train_steps(model, Muon(ModelParameters(model), lr=0.01, weight_decay=0.0), steps=1)
    for (name, new), old in zip(model.named_parameters(), before.parameters(), strict=True):
        if is_hidden(name, new):
            update = (new - old).detach() / -0.01
            singular = torch.linalg.svdvals(update / (0.2 * max(new.shape) ** 0.5))
            assert 0.5 < singular.median() < 1.3, name
            assert singular.max() < 1.3, name
            assert update.square().mean().sqrt() == pytest.approx(0.2, rel=0.4), name


def test_every_core_learns(core_name):
    model = make_model(core_name)
    losses = train_steps(model, Muon(ModelParameters(model), lr=0.03), steps=12)
    assert losses[-1] < losses[0] - 0.2


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_change_rate_and_momentum_of_both_and_a_restored_state_goes_on_bitwise(name):
    def parts(model):
        optimizer = Muon(ModelParameters(model), lr=0.01, fused=True)
        return optimizer, SCHEDULES[name](optimizer, total_steps=10)["scheduler"]

    model = make_model("gru")
    optimizer, schedule = parts(model)
    seen = []
    for step in range(10):
        matrices, adamw = optimizer.param_groups
        train_steps(model, optimizer, schedule, steps=1)
        seen.append(matrices["betas"][0])
        assert matrices["lr"] == adamw["lr"]
        if "cycle" in name:
            assert matrices["betas"] == adamw["betas"][:1]
        if step == 4:
            stored = copy.deepcopy([each.state_dict() for each in (model, optimizer, schedule)])
    assert (len({*seen}) > 3) is ("cycle" in name)
    assert "cycle" in name or {*seen} == {0.95}
    resumed = make_model("gru")
    resumed_parts = parts(resumed)
    for each, state in zip((resumed, *resumed_parts), stored, strict=True):
        each.load_state_dict(state)
    train_steps(resumed, *resumed_parts, steps=5)
    assert_same_weights(resumed, model)
    resumed_state, state = (each.state_dict() for each in (resumed_parts[0], optimizer))
    assert resumed_state["param_groups"] == state["param_groups"]
    torch.testing.assert_close(resumed_state["state"], state["state"], rtol=0, atol=0)
