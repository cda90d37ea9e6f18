"""What holds for every core, head and embedding of conf/: exact probabilities, causality, one state signature."""

import pytest
import torch
from hydra.errors import InstantiationException
from torch.nn import functional as F

from lm.errors import UserError
from lm.models import Core, map_state
from lm.ops import IGNORE_INDEX, has_bfloat16_lstm
from tests.conftest import EMBEDDINGS, HEADS, LSTMS, V, make_model


@pytest.fixture
def tokens():
    return torch.randint(V, (11, 3), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("tie_weights", [False, True])
@pytest.mark.parametrize("embedding_size", [12, 10])
def test_probabilities_of_every_position_sum_to_one(core_name, tokens, tie_weights, embedding_size):
    log_probs, _ = make_model(core_name, embedding_size=embedding_size, tie_weights=tie_weights)(tokens)
    assert log_probs.shape == (11, 3, V)
    assert (log_probs <= 0).all()
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(11, 3))


def test_nll_of_both_methods_agrees_in_values_and_gradients(core_name, tokens):
    model = make_model(core_name)
    targets = tokens.roll(-1, 0)
    nll, _ = model.nll(tokens, targets)
    log_probs, _ = model(tokens)
    from_log_probs = F.nll_loss(log_probs.flatten(0, 1), targets.flatten(), reduction="none").view_as(nll)
    torch.testing.assert_close(nll, from_log_probs)
    parameters = list(model.parameters())
    for ours, theirs in zip(
        torch.autograd.grad(nll.mean(), parameters), torch.autograd.grad(from_log_probs.mean(), parameters), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)


def test_output_never_depends_on_later_tokens(core_name, tokens):
    model = make_model(core_name)
    changed = tokens.clone()
    changed[6:] = (changed[6:] + 1) % V
    before, after = model(tokens)[0], model(changed)[0]
    assert torch.equal(before[:6], after[:6])
    assert not torch.allclose(before[6:], after[6:])


def test_gradient_of_a_position_reaches_no_later_token(core_name, tokens):
    model = make_model(core_name)
    embedded = model.embedding(tokens).detach().requires_grad_()
    hidden, _ = model.core(embedded, model.core.initial_state(3))
    [gradient] = torch.autograd.grad(hidden[4].sum() + hidden[4].square().sum(), embedded)
    assert (gradient[:5] != 0).any(-1).all()
    assert (gradient[5:] == 0).all()


@pytest.mark.parametrize("lengths", [(11,), (4, 4, 3), (1,) * 11, (1, 9, 1)])
def test_one_window_several_and_one_word_at_a_time_give_the_same(core_name, tokens, lengths):
    model = make_model(core_name)
    whole, last = model(tokens)
    parts, state = [], None
    for part in tokens.split(lengths):
        log_probs, state = model(part, state)
        parts.append(log_probs)
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-5, atol=1e-6)
    shapes = []
    map_state(lambda tensor: shapes.append(tensor.shape) or tensor, (last, state))
    assert shapes[: len(shapes) // 2] == shapes[len(shapes) // 2 :]


def test_streams_do_not_see_each_other(core_name, tokens):
    model = make_model(core_name)
    together, _ = model(tokens)
    alone, _ = model(tokens[:, 1:2])
    torch.testing.assert_close(together[:, 1:2], alone, rtol=1e-5, atol=1e-6)


def test_carried_state_has_no_history(core_name, tokens):
    model = make_model(core_name)
    _, state = model(tokens)
    histories = []
    map_state(lambda tensor: histories.append(tensor.requires_grad) or tensor, model.core.carry(state))
    assert histories
    assert not any(histories)


def test_dropout_acts_in_training_only(core_name, tokens):
    model = make_model(core_name, dropout=0.5)
    assert torch.equal(model(tokens)[0], model(tokens)[0])
    model.train()
    assert not torch.allclose(model(tokens)[0], model(tokens)[0])


def test_tied_weights_are_one_matrix(core_name):
    tied, untied = make_model(core_name, tie_weights=True), make_model(core_name)
    assert tied.head.decoder.weight is tied.embedding.weight
    saved = sum(p.numel() for p in untied.parameters()) - sum(p.numel() for p in tied.parameters())
    assert saved == V * 12


@pytest.mark.parametrize("tie_weights", [False, True])
@pytest.mark.parametrize("embedding", EMBEDDINGS)
@pytest.mark.parametrize("head", HEADS)
def test_every_head_is_exact_over_every_embedding_or_refuses_to_be_tied(head, embedding, tie_weights, tokens):
    options = f"model/head={head}", f"model/embedding={embedding}"
    try:
        model = make_model("gru", *options, tie_weights=tie_weights, hidden_size=10)
    except InstantiationException as error:
        assert tie_weights and isinstance(error.__cause__, UserError)
        return
    assert tie_weights == any(table is each for table in model.embedding.tables for each in model.head.parameters())
    targets = tokens.roll(-1, 0)
    targets[3, 1] = IGNORE_INDEX
    log_probs, _ = model(tokens)
    assert log_probs.shape == (11, 3, V)
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(11, 3))
    nll, _ = model.nll(tokens, targets)
    assert nll[3, 1].item() == 0
    from_log_probs = F.nll_loss(log_probs.flatten(0, 1), targets.flatten(), reduction="none").view_as(nll)
    torch.testing.assert_close(nll, from_log_probs)
    parameters = list(model.parameters())
    ours, theirs = (torch.autograd.grad(loss.sum(), parameters) for loss in (nll, from_log_probs))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("head", HEADS)
def test_every_head_can_be_tied_to_an_embedding(head):
    def fits(embedding: str) -> bool:
        try:
            return bool(make_model("gru", f"model/head={head}", f"model/embedding={embedding}", tie_weights=True))
        except InstantiationException:
            return False

    assert any(map(fits, EMBEDDINGS))


def test_every_core_starts_from_zeros(core_name):
    tensors = []
    map_state(tensors.append, make_model(core_name).core.initial_state(3))
    assert tensors
    assert not any(tensor.any() for tensor in tensors)  # a tensor of no length has nothing that is not zero


@pytest.mark.parametrize("missing", ["output_size", "batch_dim"])
def test_a_core_without_its_sizes_fails_at_construction(missing):
    class Incomplete(Core):
        forward = initial_state = carry = None

        def __init__(self):
            sizes = {"output_size": 4, "batch_dim": 1}
            del sizes[missing]
            super().__init__(**sizes)

    with pytest.raises(TypeError, match=missing):
        Incomplete()


def test_embedding_and_decoder_start_uniform_within_a_tenth():
    model = make_model("transformer")
    for weight in (model.embedding.weight, model.head.decoder.weight):
        assert 0.09 < weight.abs().max() <= 0.1
        assert abs(weight.std().item() - 0.2 / 12**0.5) < 0.01
    assert (model.head.decoder.bias == 0).all()


def test_a_model_in_bfloat16_runs(core_name, tokens):
    log_probs, _ = make_model(core_name).bfloat16()(tokens)
    assert log_probs.dtype == torch.float32  # they are sums over all words
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(tokens.shape))


@pytest.mark.parametrize("name", ["transformer", "transformer_xl"])
def test_a_transformer_adds_its_residual_connections_in_fp32_whatever_its_embedding_size(name, tokens):
    model = make_model(name, embedding_size=6)
    inputs = []
    model.core.layers[-1].register_forward_hook(lambda layer, args, outputs: inputs.append(args[0].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        model(tokens)
    assert inputs == [torch.float32]


def test_bfloat16_autocast_runs_every_core_over_several_windows(core_name, tokens):
    if core_name in LSTMS and not has_bfloat16_lstm():
        pytest.skip("this CPU has no LSTM in bfloat16")
    model = make_model(core_name)
    for parameter in model.parameters():  # else all words are nearly as probable, whatever came before
        torch.nn.init.normal_(parameter, std=0.5)
    exact, _ = model(tokens)
    with torch.autocast("cpu", torch.bfloat16):
        first, state = model(tokens[:5])
        second, _ = model(tokens[5:], state)
        without, _ = model(tokens[5:])
    error, without_state = ((torch.cat([first, each]).float() - exact).norm() for each in (second, without))
    assert error < 0.1 * (exact - exact.mean(-1, keepdim=True)).norm()
    assert error < without_state / 2
