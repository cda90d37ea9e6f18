"""Weight drop, locked dropout and embedding dropout against loops with the same masks; off, they change nothing."""

import copy
import warnings

import pytest
import torch
from torch import nn

from lm.errors import UserError
from lm.models import WeightDropCore
from lm.models.recurrent import CELLS
from lm.models.weight_drop import RECURRENT_WEIGHT, WeightDropLayer
from lm.ops import Dropout, LockedDropout, has_bfloat16_lstm
from tests.conftest import RECURRENT, V, make_model, needs_gpu

CELL = {
    "rnn_tanh": lambda: nn.RNNCell(3, 4),
    "rnn_relu": lambda: nn.RNNCell(3, 4, nonlinearity="relu"),
    "lstm": lambda: nn.LSTMCell(3, 4),
    "gru": lambda: nn.GRUCell(3, 4),
}


@pytest.mark.parametrize("cell", RECURRENT)
def test_one_mask_of_the_recurrent_weights_holds_for_all_steps(cell):
    layer = WeightDropLayer(CELLS[cell], 3, 4, 0.5)
    inputs = torch.randn(6, 2, 3)
    torch.manual_seed(1)
    outputs, _ = layer(inputs, layer.initial_state(2))
    torch.manual_seed(1)
    dropped = Dropout(0.5)(getattr(layer.rnn, RECURRENT_WEIGHT))
    assert 0 < (dropped == 0).sum() < dropped.numel()
    weights = dict(layer.rnn.named_parameters()) | {RECURRENT_WEIGHT: dropped}
    weights = {name.removesuffix("_l0"): weight for name, weight in weights.items()}
    step_by_step, state, expected = CELL[cell](), None, []
    for step in inputs:
        state = torch.func.functional_call(step_by_step, weights, (step, state))
        expected.append(state[0] if cell == "lstm" else state)
    torch.testing.assert_close(outputs, torch.stack(expected))
    parameters = list(layer.parameters())
    ours = torch.autograd.grad(outputs.square().sum(), parameters, retain_graph=True)
    theirs = torch.autograd.grad(torch.stack(expected).square().sum(), parameters)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("training", [True, False])
def test_without_weight_drop_or_in_evaluation_a_layer_is_torchs_own(training):
    layer = WeightDropLayer(nn.LSTM, 3, 4, 0.0 if training else 0.5).train(training)
    theirs = nn.LSTM(3, 4)
    theirs.load_state_dict(layer.rnn.state_dict())
    inputs = torch.randn(6, 2, 3)
    assert torch.equal(layer(inputs, layer.initial_state(2))[0], theirs(inputs)[0])


@pytest.mark.skipif(not has_bfloat16_lstm(), reason="needs oneDNN's LSTM in bfloat16")
def test_a_layer_with_dropped_weights_keeps_onednns_lstm_in_bfloat16():
    layer = WeightDropLayer(nn.LSTM, 16, 16, 0.5)
    inputs = torch.randn(3, 2, 16)
    with torch.autocast("cpu", torch.bfloat16), torch.profiler.profile() as profile:
        outputs, _ = layer(inputs, layer.initial_state(2))
    assert outputs.dtype == torch.bfloat16
    assert "aten::mkldnn_rnn_layer" in {event.name for event in profile.events()}


@needs_gpu
@pytest.mark.parametrize("autocast", [False, True])
def test_on_a_gpu_dropped_weights_are_flattened_without_a_warning_and_evaluation_uses_all_weights(autocast):
    layer = WeightDropLayer(nn.LSTM, 16, 16, 0.5).cuda()
    inputs = torch.randn(3, 2, 16, device="cuda")
    before = copy.deepcopy(layer).eval()
    with warnings.catch_warnings(), torch.autocast("cuda", torch.bfloat16, enabled=autocast):
        warnings.filterwarnings("error", message="RNN module weights are not part of single contiguous chunk")
        for _ in range(2):
            layer(inputs, layer.initial_state(2))[0].float().sum().backward()
        expected, _ = before(inputs, before.initial_state(2))
        torch.testing.assert_close(layer.eval()(inputs, layer.initial_state(2))[0], expected)
    assert all(weight.grad is not None for weight in layer.parameters())


def test_layers_have_the_sizes_of_the_config_and_the_last_one_its_own():
    core = WeightDropCore(3, "gru", hidden_size=8, num_layers=3, dropout=0.1, last_size=5)
    assert [(layer.rnn.input_size, layer.rnn.hidden_size) for layer in core.layers] == [(3, 8), (8, 8), (8, 5)]
    assert core.output_size == 5
    assert core.input_dropout.p == core.dropout.p == 0.1


def test_locked_dropout_has_one_mask_for_all_steps_and_keeps_the_mean():
    torch.manual_seed(0)
    inputs = torch.randn(7, 40, 500)
    outputs = LockedDropout(0.3)(inputs)
    scale = outputs / inputs
    torch.testing.assert_close(scale, scale[:1].expand_as(scale))
    dropped = (scale[0] == 0).sum().item()
    assert abs(dropped - 0.3 * 20_000) < 4 * (0.3 * 0.7 * 20_000) ** 0.5
    assert scale.max().item() == pytest.approx(1 / 0.7, rel=1e-3)
    assert torch.equal(LockedDropout(0.3).eval()(inputs), inputs)
    assert torch.equal(LockedDropout(0.0)(inputs), inputs)
    assert LockedDropout(0.3)(inputs.bfloat16()).dtype == torch.bfloat16


def test_locked_dropout_of_the_outputs_reaches_the_head():
    model = make_model("lstm", output_dropout=0.5, locked_dropout=True).train()
    tokens = torch.randint(V, (9, 2))
    outputs, _ = model.training_nll(tokens, tokens)
    before, after = outputs.hidden, outputs.dropped
    dropped = after == 0
    assert torch.equal(dropped, dropped[:1].expand_as(dropped))
    assert not torch.equal(after, before)


@pytest.mark.parametrize("overrides", [[], ["model/embedding=adaptive"]], ids=str)
def test_embedding_dropout_drops_all_vectors_of_a_word_and_scales_the_others(overrides):
    model = make_model("lstm", *overrides, embedding_dropout=0.5).train()
    tokens = torch.arange(V).repeat(2)[:, None]
    seen = []
    model.core.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    torch.manual_seed(3)
    model.hidden_states(tokens)
    [vectors] = seen
    full = model.embedding(tokens)
    dropped = (vectors == 0).all(-1)
    assert torch.equal(dropped[:V], dropped[V:])  # a word is dropped everywhere in a window
    assert 0 < dropped[:V].sum() < V
    torch.testing.assert_close(vectors[~dropped], 2 * full[~dropped])
    model.eval()
    model.hidden_states(tokens)
    assert torch.equal(seen[1], full)


def test_dropped_words_of_a_tied_model_are_still_predicted():
    model = make_model("lstm", tie_weights=True, embedding_dropout=0.9).train()
    tokens = torch.randint(V, (9, 2))
    outputs, _ = model.training_nll(tokens, tokens)
    outputs.nll.sum().backward()
    assert (model.head.decoder.weight.grad != 0).any(1).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cell": "elman"}, "cell=elman given"),
        ({"weight_dropout": 1.0}, "weight_dropout=1.0 given"),
        ({"last_size": 0}, "last_size=0 given"),
        ({"input_dropout": -0.1}, "input_dropout=-0.1 given"),
    ],
)
def test_impossible_values_are_refused(wrong, message):
    right = {"cell": "lstm", "hidden_size": 4, "num_layers": 1, "dropout": 0.0}
    with pytest.raises(UserError, match=message):
        WeightDropCore(3, **right | wrong)
