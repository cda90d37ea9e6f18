"""What the machine allows: its product rate, and the least that a training step has to compute."""

from collections.abc import Callable
from typing import Any

import torch
from hydra.utils import instantiate
from torch.utils.benchmark import Timer

from lm.benchmark.device import autocast, device_of, product_dtype
from lm.training.process import prepare_process

BLOCK = 1024  # columns of a product, whose result then stays in the processor's cache


def gflops(device: torch.device) -> dict[str, float]:
    """A device's rate of matrix products, in 10^9 additions and multiplications a second, by dtype."""
    rates, threads = {}, torch.get_num_threads()
    for dtype in (torch.float32, torch.bfloat16):
        shapes = {"a": (700, 200), "b": (200, BLOCK), "out": (700, BLOCK)}
        parts = {name: torch.ones(shape, dtype=dtype, device=device) for name, shape in shapes.items()}
        timer = Timer("torch.mm(a, b, out=out)", globals={"torch": torch, **parts}, num_threads=threads)
        seconds = min(timer.timeit(20).median for _ in range(5))
        rates[str(dtype).removeprefix("torch.")] = 2 * 700 * 200 * BLOCK / seconds / 1e9
    return rates


def train(config: dict[str, Any], next_turn: Callable[..., None]) -> None:
    """A step is the three products of the output layer, forward and backward, then the core's forward and backward.

    Nothing between them, and no embedding, loss, clipping or optimizer.
    """
    prepare_process()
    vocabulary_size = len(instantiate(config["data"]).corpus.vocabulary)
    device, dtype = device_of(config), product_dtype(config)
    model = instantiate(config["model"], vocabulary_size=vocabulary_size).train().to(device)
    steps, batch_size = config["data"]["bptt"], config["data"]["batch_size"]
    inputs = torch.randn(steps, batch_size, model.embedding.embedding_dim, device=device, requires_grad=True)
    features = torch.randn(steps * batch_size, model.head.decoder.in_features, device=device).to(dtype)
    matrix = model.head.decoder.weight.detach().to(dtype)
    logits, gradients = torch.empty(len(features), BLOCK, dtype=dtype, device=device), torch.empty_like(features)
    next_turn()
    while True:
        model.core.zero_grad()
        inputs.grad = None
        for words in matrix.split(BLOCK):
            block = logits[:, : len(words)]
            torch.mm(features, words.T, out=block)
            torch.mm(block, words, out=gradients)
            torch.mm(block.T, features)
        with autocast(config):
            outputs, _ = model.core(inputs, model.core.initial_state(batch_size))
        outputs.backward(torch.ones_like(outputs))
        next_turn()
