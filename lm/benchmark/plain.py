"""The yardstick: word-level language modelling as one would first write it in PyTorch, in fp32 and with no tricks.

What pytorch/examples' word_language_model does: log_softmax over all words, NLLLoss, SGD by hand, generation that reads
the whole text again for each word where the model is a Transformer. It needs nothing of this project but its
race, and no Lightning.
"""

import itertools
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lm.benchmark.contender import Contender

State = Any


class Model(nn.Module):
    """Embedding, core and linear layer: `[T, B]` → log-probabilities in nats `[T·B, V]`, and the state.

    Args:
        vocabulary_size: V.
        model: the `model` group of a training config, with an exact softmax.
    """

    def __init__(self, vocabulary_size: int, model: dict[str, Any]) -> None:
        super().__init__()
        core, width = model["core"], model["embedding"]["embedding_size"]
        self.is_transformer = "num_heads" in core
        hidden, layers, dropout = core["hidden_size"], core["num_layers"], core["dropout"]
        self.embedding = nn.Embedding(vocabulary_size, width)
        self.dropout = nn.Dropout(dropout)
        if self.is_transformer:
            layer = nn.TransformerEncoderLayer(hidden, core["num_heads"], core["feedforward_size"], dropout)
            self.core: nn.Module = nn.TransformerEncoder(layer, layers)
        else:
            name = core["cell"]
            kind = {"rnn_tanh": nn.RNN, "rnn_relu": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[name]
            options = {"nonlinearity": name.removeprefix("rnn_")} if kind is nn.RNN else {}
            self.core = kind(width, hidden, layers, dropout=dropout, **options)
        self.decoder = nn.Linear(hidden, vocabulary_size)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        nn.init.uniform_(self.decoder.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)
        if model["head"]["tie_weights"]:
            self.decoder.weight = self.embedding.weight

    def forward(self, tokens: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Read T steps of every column."""
        vectors = self.embedding(tokens)
        if self.is_transformer:
            vectors = vectors * math.sqrt(vectors.size(-1)) + sinusoids(len(tokens), vectors.size(-1))
            mask = nn.Transformer.generate_square_subsequent_mask(len(tokens))
            outputs = self.core(self.dropout(vectors), mask=mask)
        else:
            outputs, state = self.core(self.dropout(vectors), state)
            outputs = self.dropout(outputs)
            state = tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach()
        return F.log_softmax(self.decoder(outputs).flatten(0, 1), dim=-1), state


def sinusoids(steps: int, width: int) -> Tensor:
    """The position encodings of Vaswani et al. (2017), `[T, 1, width]`."""
    positions = torch.arange(steps)[:, None]
    angles = positions * torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    encodings = torch.zeros(steps, 1, width)
    encodings[:, 0, 0::2], encodings[:, 0, 1::2] = angles.sin(), angles.cos()
    return encodings


def read_corpus(files: list[str]) -> tuple[dict[str, int], list[Tensor]]:
    """Number the words of text files in the order of their appearance: the numbers, and each file as `[N]`."""
    numbers: dict[str, int] = {}
    streams = []
    for file in files:
        lines = Path(file).read_text(encoding="utf-8").removesuffix("\n").split("\n")
        for line in lines:
            for word in [*line.split(), "<eos>"]:
                if word not in numbers:
                    numbers[word] = len(numbers)
        ids = [torch.tensor([numbers[word] for word in [*line.split(), "<eos>"]]) for line in lines]
        streams.append(torch.cat(ids))
    return numbers, streams


def columns(stream: Tensor, batch_size: int) -> Tensor:
    """Cut a stream into columns, `[N // B, B]`."""
    rows = len(stream) // batch_size
    return stream[: rows * batch_size].view(batch_size, rows).t().contiguous()


def windows(text: Tensor, bptt: int) -> list[tuple[Tensor, Tensor]]:
    """Inputs and targets `[T, B]` of every window."""
    starts = range(0, len(text) - 1, bptt)
    return [(text[i : min(i + bptt, len(text) - 1)], text[i + 1 : i + bptt + 1]) for i in starts]


class Training(Contender):
    """A training step at a time."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        torch.manual_seed(config["seed"])
        data = config["data"]
        numbers, (train, *_) = read_corpus(config["files"])
        self.windows = itertools.cycle(windows(columns(train, data["batch_size"]), data["bptt"]))
        self.model = Model(len(numbers), config["model"])
        self.learning_rate, self.clip = config["optimizer"]["lr"], config["trainer"]["gradient_clip_val"]
        self.state: State = None

    def work(self) -> None:
        """Train on one window."""
        inputs, targets = next(self.windows)
        self.model.zero_grad()
        log_probs, self.state = self.model(inputs, self.state)
        loss = F.nll_loss(log_probs, targets.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        for parameter in self.model.parameters():
            assert parameter.grad is not None
            parameter.data.add_(parameter.grad, alpha=-self.learning_rate)
        self.losses.append(loss.item())


class Evaluation(Contender):
    """A window of the validation text at a time."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        torch.manual_seed(config["seed"])
        data = config["data"]
        numbers, (_, valid, _) = read_corpus(config["files"])
        self.windows = itertools.cycle(windows(columns(valid, data["eval_batch_size"]), data["bptt"]))
        self.model = Model(len(numbers), config["model"]).eval()
        self.state: State = None
        self.nats = 0.0

    @torch.no_grad()
    def work(self) -> None:
        """Score one window."""
        inputs, targets = next(self.windows)
        log_probs, self.state = self.model(inputs, self.state)
        self.nats += len(inputs) * F.nll_loss(log_probs, targets.flatten()).item()


class Generation(Contender):
    """A word at a time."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        torch.manual_seed(config["seed"])
        numbers, _ = read_corpus(config["files"])
        self.model = Model(len(numbers), config["model"]).eval()

    def begin(self) -> None:
        """Begin a new text."""
        self.state: State = None
        self.text = torch.randint(self.model.embedding.num_embeddings, (1, 1))

    @torch.no_grad()
    def work(self) -> None:
        """Draw the next word; a Transformer reads the whole text for it."""
        log_probs, self.state = self.model(self.text, self.state)
        word = torch.multinomial(log_probs[-1].exp(), 1)[:, None]
        self.text = torch.cat([self.text, word]) if self.model.is_transformer else word


class Reading(Contender):
    """The whole corpus at a time."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.files = config["files"]

    def work(self) -> None:
        """Read and number the text."""
        read_corpus(self.files)
