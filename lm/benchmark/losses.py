"""The exact loss of an output layer alone, forward and backward: plain, torch's chunked one, and ours.

Each function runs forever and calls `next_turn` when it is ready and after each step.
"""

from collections.abc import Callable
from typing import Any

import torch
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.nn import functional as F

from lm.benchmark.device import autocast, device_of
from lm.errors import UserError
from lm.ops import linear_cross_entropy
from lm.training.process import prepare_process


def plain(config: dict[str, Any], next_turn: Callable[..., None]) -> None:
    """A step is linear, log_softmax and nll_loss."""
    _repeat(config, next_turn, lambda *parts: F.nll_loss(F.log_softmax(F.linear(*parts[:3]), dim=-1), parts[3]))


def torch_chunked(config: dict[str, Any], next_turn: Callable[..., None]) -> None:
    """A step is torch's linear_cross_entropy with its own chunking, or with chunks of `chunk` positions."""
    if not hasattr(nn, "LinearCrossEntropyOptions"):
        raise UserError(
            f"work=loss given, but torch {torch.__version__} has no nn.LinearCrossEntropyOptions: use torch 2.13."
        )
    size = config.get("chunk")
    options = nn.LinearCrossEntropyOptions(**({"chunking_method": None, "batch_chunk_size": size} if size else {}))

    def loss(features: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
        return F.linear_cross_entropy(features, weight, targets, linear_bias=bias, options=options)

    _repeat(config, next_turn, loss)


def fast(config: dict[str, Any], next_turn: Callable[..., None]) -> None:
    """A step is `lm.ops.linear_cross_entropy`."""
    _repeat(config, next_turn, lambda *parts: linear_cross_entropy(*parts).mean())


def _repeat(config: dict[str, Any], next_turn: Callable[..., None], loss: Callable[..., Tensor]) -> None:
    prepare_process()
    torch.manual_seed(config["seed"])
    words = len(instantiate(config["data"]).corpus.vocabulary)
    positions, size = config["data"]["bptt"] * config["data"]["batch_size"], config["model"]["core"]["hidden_size"]
    device = device_of(config)
    features = torch.randn(positions, size, device=device, requires_grad=True)
    layer = nn.Linear(size, words, device=device)
    targets = torch.randint(words, (positions,), device=device)
    next_turn()
    while True:
        features.grad = layer.weight.grad = layer.bias.grad = None
        with autocast(config):
            value = loss(features, layer.weight, layer.bias, targets)
        value.backward()
        next_turn()
