"""The baseline: word-level language modelling in straightforward PyTorch, in fp32 and without optimisations.

As in word_language_model of pytorch/examples: log_softmax over all words, NLLLoss, SGD by hand, and generation that
re-encodes the whole text for each word of a Transformer. It uses nothing of this project and no Lightning.
On a GPU the text is copied there once, as the example does.
Each function runs forever and calls `next_turn` when it is ready and after each step, with the loss of a training step.
"""

import itertools
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Model(nn.Module):
    """Token ids `[T, B]` → log-probabilities in nats `[T·B, V]`, and the state; `config` is a run's `model` group."""

    def __init__(self, vocabulary_size: int, config: dict[str, Any]) -> None:
        super().__init__()
        core, embedding_size = config["core"], config["embedding"]["embedding_size"]
        hidden_size, num_layers, dropout = core["hidden_size"], core["num_layers"], core["dropout"]
        self.is_transformer = "num_heads" in core
        self.core: nn.Module
        if self.is_transformer:
            layer = nn.TransformerEncoderLayer(hidden_size, core["num_heads"], core["feedforward_size"], dropout)
            self.core = nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)
        else:
            cell, _, nonlinearity = core["cell"].partition("_")
            options = {"nonlinearity": nonlinearity} if nonlinearity else {}
            self.core = getattr(nn, cell.upper())(embedding_size, hidden_size, num_layers, dropout=dropout, **options)
        self.embedding = nn.Embedding(vocabulary_size, embedding_size)
        self.dropout = nn.Dropout(dropout)
        self.decoder = nn.Linear(hidden_size, vocabulary_size)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        nn.init.uniform_(self.decoder.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)
        if config["head"]["tie_weights"]:
            self.decoder.weight = self.embedding.weight

    def forward(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        features = self.embedding(tokens)
        if self.is_transformer:
            features = features * math.sqrt(features.size(-1))
            features = features + positional_encoding(*features.shape[::2]).to(features.device)
            mask = nn.Transformer.generate_square_subsequent_mask(len(tokens), device=tokens.device)
            outputs = self.core(self.dropout(features), mask=mask)
        else:
            outputs, state = self.core(self.dropout(features), state)
            outputs = self.dropout(outputs)
            state = tuple(each.detach() for each in state) if isinstance(state, tuple) else state.detach()
        return F.log_softmax(self.decoder(outputs).flatten(0, 1), dim=-1), state


def positional_encoding(steps: int, size: int) -> Tensor:
    """The sinusoids of Vaswani et al. (2017), `[T, 1, size]`."""
    angles = torch.arange(steps)[:, None] * torch.exp(torch.arange(0, size, 2) * (-math.log(10_000.0) / size))
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, None]


def read_corpus(files: list[str]) -> tuple[dict[str, int], list[Tensor]]:
    """The id of each word of the first file, in the order of appearance, and the token ids `[N]` of each file."""
    ids: dict[str, int] = {}
    streams = []
    for file in files:
        lines = Path(file).read_text(encoding="utf-8").removesuffix("\n").split("\n")
        if not ids:  # the training text
            for line in lines:
                for word in [*line.split(), "<eos>"]:
                    if word not in ids:
                        ids[word] = len(ids)
            unknown = ids.setdefault("<unk>", len(ids))
        words = ([*line.split(), "<eos>"] for line in lines)
        streams.append(torch.cat([torch.tensor([ids.get(word, unknown) for word in line]) for line in words]))
    return ids, streams


def windows(stream: Tensor, batch_size: int, bptt: int) -> list[tuple[Tensor, Tensor]]:
    """Inputs and targets `[T, B]` of every BPTT window of a text `[N]` that is cut into B streams."""
    steps = len(stream) // batch_size
    text = stream[: steps * batch_size].view(batch_size, steps).t().contiguous()
    return [(text[i : i + bptt][: steps - 1 - i], text[i + 1 : i + 1 + bptt]) for i in range(0, steps - 1, bptt)]


def train(config: dict[str, Any], next_turn: Callable[..., None]) -> None:
    """A step is a window of the training text."""
    model, (text, *_) = _model_and_text(config)
    next_turn()
    for loss in _training_losses(model, text, config):
        next_turn(loss)


def _training_losses(model: Model, text: Tensor, config: dict[str, Any]) -> Iterator[float]:
    """Train forever, and yield the loss of each window in nats."""
    for epoch_windows in itertools.repeat(windows(text, config["data"]["batch_size"], config["data"]["bptt"])):
        state = None
        for inputs, targets in epoch_windows:
            model.zero_grad()
            log_probs, state = model(inputs, state)
            loss = F.nll_loss(log_probs, targets.flatten())
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), config["trainer"]["gradient_clip_val"])
            for parameter in model.parameters():
                assert parameter.grad is not None
                parameter.data.add_(parameter.grad, alpha=-config["optimizer"]["lr"])
            yield loss.item()


def evaluate(config: dict[str, Any], next_turn: Callable[..., None]) -> None:
    """A step is a window of the validation text."""
    model, (_, text, _) = _model_and_text(config)
    model.eval()
    next_turn()
    while True:
        for _ in _evaluation_losses(model, text, config):
            next_turn()


@torch.no_grad()
def _evaluation_losses(model: Model, text: Tensor, config: dict[str, Any]) -> Iterator[float]:
    """The loss of each window of a text in nats."""
    state = None
    for inputs, targets in windows(text, config["data"]["eval_batch_size"], config["data"]["bptt"]):
        log_probs, state = model(inputs, state)
        yield F.nll_loss(log_probs, targets.flatten()).item()


def learn(config: dict[str, Any], next_turn: Callable[..., None]) -> None:
    """A step is training and then a validation; see `lm.benchmark.learning`."""
    model, (text, valid, _) = _model_and_text(config)
    losses = _training_losses(model, text, config)
    next_turn()
    while True:
        start = time.perf_counter()
        model.train()
        for _ in itertools.islice(losses, config["steps"]):
            pass
        seconds = time.perf_counter() - start
        model.eval()
        nats = list(itertools.islice(_evaluation_losses(model, valid, config), config["windows"]))
        next_turn((seconds, sum(nats) / len(nats)))


def _model_and_text(config: dict[str, Any]) -> tuple[Model, list[Tensor]]:
    torch.manual_seed(config["seed"])
    ids, streams = read_corpus(config["files"])
    device = "cuda" if config["trainer"]["accelerator"] == "gpu" else "cpu"
    return Model(len(ids), config["model"]).to(device), [stream.to(device) for stream in streams]


@torch.no_grad()
def generate(config: dict[str, Any], next_turn: Callable[..., None]) -> None:
    """A step is a word; a new text starts after `words` of them."""
    model, (ids, *_) = _model_and_text(config)
    model.eval()
    next_turn()
    while True:
        text, state = torch.randint(model.embedding.num_embeddings, (1, 1), device=ids.device), None
        for _ in range(config["words"]):
            log_probs, state = model(text, state)
            word = torch.multinomial(log_probs[-1].exp(), 1)[:, None]
            text = torch.cat([text, word]) if model.is_transformer else word
            next_turn()


def read(config: dict[str, Any], next_turn: Callable[..., None]) -> None:
    """A step is the whole corpus."""
    next_turn()
    while True:
        read_corpus(config["files"])
        next_turn()
