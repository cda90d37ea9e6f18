"""Parameter groups: which parameters decay; without them torch's optimizers are as they come."""

import pytest
import torch

from lm.errors import UserError
from lm.training.muon import Muon
from lm.training.optimizers import SGD, Adam, AdamW, ModelParameters
from scripts.train import train
from tests.conftest import composed, make_model, tiny_config

OPTIMIZERS = {"sgd": (SGD, torch.optim.SGD), "adam": (Adam, torch.optim.Adam), "adamw": (AdamW, torch.optim.AdamW)}


def names_of(model, parameters) -> set[str]:
    named = {parameter: name for name, parameter in model.named_parameters()}
    return {named[each] for each in parameters}


def train_steps(model, optimizer, schedule=None, steps=4) -> list[float]:
    """Train on one window; returns the losses."""
    tokens = torch.randint(30, (9, 4), generator=torch.Generator().manual_seed(0))
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model.nll(tokens[:-1], tokens[1:])[0].mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        optimizer.step()
        if schedule:
            schedule.step()
        losses.append(loss.item())
    return losses


def assert_same_weights(first, second) -> None:
    torch.testing.assert_close(first.state_dict(), second.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("tied", [False, True])
def test_matrices_are_neither_embeddings_nor_vectors(tied):
    model = make_model("transformer", tie_weights=tied)
    parameters = ModelParameters(model)
    matrices = names_of(model, parameters.matrices)
    assert ("head.decoder.weight" in matrices) is not tied
    assert matrices - {"head.decoder.weight"} == names_of(model, parameters.hidden_matrices)
    assert all(parameter.ndim == 2 for parameter in parameters.matrices)
    layers = {name for name in names_of(model, parameters.all) if "core" in name and "norm" not in name}
    assert names_of(model, parameters.hidden_matrices) == {name for name in layers if name.endswith("weight")}
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))


def test_every_core_has_hidden_matrices_and_no_embedding_is_among_the_matrices(core_name):
    model = make_model(core_name)
    parameters = ModelParameters(model)
    assert parameters.hidden_matrices
    assert not {*parameters.matrices} & {*model.embedding.tables}


def test_adaptive_embeddings_are_embeddings_and_their_projections_are_matrices():
    model = make_model("gru", "model/head=adaptive", "model/embedding=adaptive", tie_weights=True)
    matrices = names_of(model, ModelParameters(model).matrices)
    assert {name for name in matrices if name.startswith("embedding")} == {
        "embedding.projections.0.weight",
        "embedding.projections.1.weight",
    }
    assert not any(name.startswith("head.clusters") for name in matrices)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_with_all_it_is_torchs_optimizer_to_the_bit(name):
    ours, theirs = OPTIMIZERS[name]
    first, second = make_model("lstm"), make_model("lstm")
    optimizers = (
        ours(ModelParameters(first), lr=0.1, weight_decay=0.1),
        theirs(second.parameters(), lr=0.1, weight_decay=0.1),
    )
    assert train_steps(first, optimizers[0]) == train_steps(second, optimizers[1])
    assert_same_weights(first, second)
    torch.testing.assert_close(*(each.state_dict() for each in optimizers), rtol=0, atol=0)
    assert type(optimizers[0]) is theirs


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_with_matrices_the_others_move_as_without_weight_decay(name):
    ours, theirs = OPTIMIZERS[name]
    model, plain = make_model("transformer"), make_model("transformer")
    grouped = ours(ModelParameters(model), lr=0.1, weight_decay=0.1, decay="matrices")
    decayed, others = [], []
    for key, parameter in plain.named_parameters():
        is_matrix = parameter.ndim == 2 and not key.startswith("embedding")
        (decayed if is_matrix else others).append(parameter)
    with_it, without = theirs(decayed, lr=0.1, weight_decay=0.1), theirs(others, lr=0.1, weight_decay=0)
    for _ in range(4):
        train_steps(model, grouped, steps=1)
        with_it.zero_grad()
        train_steps(plain, without, steps=1)
        with_it.step()
    assert_same_weights(model, plain)


def test_the_recipes_weight_decay_is_of_all_parameters():
    for options in ["experiment=awd_lstm"], ["optimizer=sgd"], ["optimizer=adamw"], ["optimizer=muon"]:
        assert composed("train", *options, "run_dir=x").optimizer.decay == "all"


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "rmsprop", "muon"])
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.decay=norms", r"^decay=norms given, but it must be one of all, matrices\.$"),
        ("optimizer.decay=true", r"^optimizer\.decay=True given, but it must be of type str\.$"),
        ("+optimizer.decays=all", r"^optimizer\.decays is unknown: optimizer takes .*decay"),
    ],
)
def test_a_mistake_is_one_line_before_training(optimizer, override, message, text_folder, tmp_path):
    with pytest.raises(UserError, match=message):
        train(tiny_config(text_folder, tmp_path, f"optimizer={optimizer}", override))
    assert not [path for path in tmp_path.iterdir() if path.name != ".lock"]


def test_a_core_without_matrices_has_no_use_for_muon():
    model = make_model("gru")
    for parameter in model.core.parameters():
        parameter.data = parameter.data.flatten()
    with pytest.raises(UserError, match=r"core has no matrices: choose optimizer=adamw"):
        Muon(ModelParameters(model))


def test_rmsprop_is_a_plain_loop_of_the_bias_corrected_root_mean_square():
    model, plain = make_model("gru"), make_model("gru")
    optimizer = Adam(ModelParameters(model), lr=0.01, betas=(0.0, 0.9), eps=1e-8)
    squares, tokens = None, torch.randint(30, (9, 4), generator=torch.Generator().manual_seed(0))
    for step in range(1, 5):
        train_steps(model, optimizer, steps=1)
        plain.zero_grad()
        plain.nll(tokens[:-1], tokens[1:])[0].mean().backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.25)
        squares = squares or [torch.zeros_like(each) for each in plain.parameters()]
        for parameter, square in zip(plain.parameters(), squares, strict=True):
            square.mul_(0.9).add_(0.1 * parameter.grad**2)
            parameter.data -= 0.01 * parameter.grad / ((square / (1 - 0.9**step)).sqrt() + 1e-8)
    torch.testing.assert_close(model.state_dict(), plain.state_dict(), rtol=1e-3, atol=1e-5)
