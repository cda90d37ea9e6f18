"""The recipes of pytorch/examples against that example's models, built from torch's own layers."""

import functools
import math

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn

from lm.config.num_params import without_num_params
from lm.models import CausalLM
from lm.ops import Dropout
from tests.conftest import RECURRENT, composed

V, SIZE, LAYERS = 1000, 200, 2
# from the example's parameter names to ours; the recurrent layers' own names follow
TRANSFORMER_NAMES = {
    "input_emb": "embedding",
    "encoder.layers": "core.layers",
    "encoder.norm": "core.final_norm",
    "self_attn.in_proj_weight": "attention.query_key_value.weight",
    "self_attn.in_proj_bias": "attention.query_key_value.bias",
    "self_attn.out_proj": "attention.output",
    "linear1": "feedforward.inner",
    "linear2": "feedforward.outer",
    "norm1": "attention_norm",
    "norm2": "feedforward_norm",
    "decoder": "head.decoder",
}
RECURRENT_NAMES = {"encoder": "embedding", "rnn": "core.layers", "decoder": "head.decoder"}


class ExampleTransformer(nn.Module):
    """nn.Transformer's encoder, built with that class's default dropout of 0.1, between an embedding and a decoder."""

    def __init__(self) -> None:
        super().__init__()
        transformer = nn.Transformer(SIZE, nhead=2, num_encoder_layers=LAYERS, dim_feedforward=200)
        self.encoder = transformer.encoder
        self.input_emb, self.decoder = nn.Embedding(V, SIZE), nn.Linear(SIZE, V)
        self.dropout = nn.Dropout(0.2)
        draw(self.input_emb, self.decoder)

    def forward(self, tokens: Tensor) -> Tensor:
        position = torch.arange(len(tokens))[:, None] * torch.exp(torch.arange(0, SIZE, 2) * (-math.log(1e4) / SIZE))
        encoding = torch.stack([position.sin(), position.cos()], dim=-1).view(len(tokens), 1, SIZE)
        inputs = self.dropout(self.input_emb(tokens) * math.sqrt(SIZE) + encoding)
        mask = nn.Transformer.generate_square_subsequent_mask(len(tokens))
        return self.decoder(self.encoder(inputs, mask)).log_softmax(-1)


class ExampleRNN(nn.Module):
    """One of torch's recurrent modules between an embedding and a decoder, which may share their matrix."""

    def __init__(self, cell: str, tied: bool) -> None:
        super().__init__()
        kind = {"lstm": nn.LSTM, "gru": nn.GRU}.get(cell, nn.RNN)
        options = {"nonlinearity": cell.removeprefix("rnn_")} if kind is nn.RNN else {}
        self.encoder, self.decoder = nn.Embedding(V, SIZE), nn.Linear(SIZE, V)
        self.rnn = kind(SIZE, SIZE, LAYERS, dropout=0.2, **options)
        self.dropout = nn.Dropout(0.2)
        if tied:
            self.decoder.weight = self.encoder.weight
        draw(self.encoder, self.decoder)

    def forward(self, tokens: Tensor) -> Tensor:
        outputs, _ = self.rnn(self.dropout(self.encoder(tokens)))
        return self.decoder(self.dropout(outputs)).log_softmax(-1)


def draw(embedding: nn.Embedding, decoder: nn.Linear) -> None:
    nn.init.uniform_(embedding.weight, -0.1, 0.1)
    nn.init.uniform_(decoder.weight, -0.1, 0.1)
    nn.init.zeros_(decoder.bias)


def renamed(weights: dict[str, Tensor], names: dict[str, str]) -> dict[str, Tensor]:
    """The example's weights under our names."""
    ours = {}
    for name, weight in weights.items():
        for theirs, replacement in names.items():
            name = name.replace(theirs, replacement)
        ours[name] = weight
    return ours


@functools.cache
def recipe(name: str) -> DictConfig:
    return without_num_params(composed("train", f"experiment=pytorch_examples/{name}"))


CASES = [("transformer", False), *((cell, tied) for cell in RECURRENT for tied in (False, True))]

pytestmark = pytest.mark.filterwarnings("ignore:enable_nested_tensor")


@pytest.fixture(params=CASES, ids=str)
def pair(request: pytest.FixtureRequest) -> tuple[nn.Module, CausalLM, dict[str, Tensor]]:
    """The example's model, ours as the recipe builds it, and the example's weights under our names."""
    name, tied = request.param
    torch.manual_seed(0)
    theirs = ExampleTransformer() if name == "transformer" else ExampleRNN(name, tied)
    weights = renamed(theirs.state_dict(), TRANSFORMER_NAMES if name == "transformer" else RECURRENT_NAMES)
    return theirs, instantiate(recipe(name).model, vocabulary_size=V, head={"tie_weights": tied}), weights


def test_the_examples_weights_load_and_give_its_log_probabilities_and_its_dropout(pair, monkeypatch):
    theirs, ours, weights = pair
    ours.load_state_dict(weights)
    tokens = torch.randint(V, (35, 3))
    torch.testing.assert_close(ours.eval()(tokens)[0], theirs.eval()(tokens), rtol=1e-4, atol=1e-5)
    # torch's dropout at the same places, at the same rates, draws the same numbers
    monkeypatch.setattr(Dropout, "forward", nn.Dropout.forward)
    torch.manual_seed(1)
    expected = theirs.train()(tokens)
    torch.manual_seed(1)
    torch.testing.assert_close(ours.train()(tokens)[0], expected, rtol=1e-4, atol=1e-5)


def test_weights_begin_with_the_examples_distributions(pair):
    _, ours, weights = pair
    assert ours.state_dict().keys() == weights.keys()
    for name, weight in ours.state_dict().items():
        if weight.std() == 0:
            assert torch.equal(weight, weights[name]), name
        else:  # uniform around zero: its bound tells all
            bound = weights[name].abs().max().item()
            assert weight.abs().max().item() == pytest.approx(bound, rel=0.03), name
            assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.15), name
