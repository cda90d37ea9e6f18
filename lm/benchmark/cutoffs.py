"""Cutoffs of the adaptive softmax that are fast on this machine, after Grave et al. 2017, section 4.

A cluster's time is a function of the tokens that use it, its words and its width, fitted to measurements; the cutoffs
that minimise the sum over all clusters are found by dynamic programming. Quality is not modelled: a small first
cluster is fast, and leaves more words with narrow vectors.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from itertools import islice, product
from typing import Any

import torch
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.nn import functional as F

from lm.benchmark.device import autocast, device_of, synchronize
from lm.models import AdaptiveHead, TokenEmbedding
from lm.models.adaptive import cluster_spans
from lm.models.heads import projection
from lm.ops import SHAPE_MULTIPLE, linear_cross_entropy
from lm.training.process import prepare_process

CLUSTERS = (2, 3, 4)
WINDOWS = 4  # of the training text, whose targets the heads are timed with


def rows(work: str, model: str, config: dict[str, Any], rounds: int) -> list[dict[str, Any]]:
    """For the config's cutoffs and the fastest of 2, 3 and 4 clusters: the head's predicted and measured time.

    Milliseconds are those of the forward and backward pass for a training window; `frequent` is the share of the
    training text that is in the first cluster.
    """
    prepare_process()
    torch.manual_seed(config["seed"])
    data, head, size = instantiate(config["data"]), config["model"]["head"], config["model"]["core"]["hidden_size"]
    device, precision = device_of(config), autocast(config)
    windows = [window.targets.to(device) for window in islice(data.train_dataloader(), WINDOWS)]
    probs = unigram_probs(data.corpus.train, len(data.corpus.vocabulary))
    hidden = torch.randn(windows[0].numel(), size, device=device, requires_grad=True)
    choices = [[span.start for span in cluster_spans(len(probs), head["cutoffs"], size, head["div_value"])[1:]]]

    # 1. the cost model
    most = max(*CLUSTERS, len(choices[0]) + 1)
    widths = [span.width for span in cluster_spans(len(probs), range(1, most), size, head["div_value"])]
    shapes = [
        (max(1, len(hidden) // i), max(1, len(probs) // j), width)
        for i, j, width in product((1, 4, 16), (1, 4, 16, 64), widths)
    ]
    coefficients = fit(shapes, medians([cluster_step(hidden, *shape, precision) for shape in shapes], rounds))

    # 2. the cutoffs
    positions = candidates(len(probs))
    for clusters in CLUSTERS:
        costs = cluster_costs(coefficients, probs, positions, widths[:clusters], len(hidden))
        choices.append([positions[i] for i in cheapest_path(costs)])

    # 3. their times
    predicted, heads = [], []
    for cutoffs in choices:
        bounds = [0, *cutoffs, len(probs)]
        costs = cluster_costs(coefficients, probs, bounds, widths[: len(bounds) - 1], len(hidden))
        predicted.append(sum(costs[i, i, i + 1].item() for i in range(len(costs))))
        heads.append(AdaptiveHead(size, TokenEmbedding(len(probs), 1), False, cutoffs, head["div_value"]).to(device))
    steps = [head_step(each, hidden, targets, precision) for targets, each in product(windows, heads)]
    measured = torch.tensor(medians(steps, rounds)).view(len(windows), -1).mean(0).tolist()
    return [
        {
            "work": work,
            "model": model,
            "cutoffs": " ".join(map(str, cutoffs)) + ("" if i else " (config)"),
            "frequent": probs[: cutoffs[0]].sum().item(),
            "predicted ms": 1000 * predicted[i],
            "ms": 1000 * measured[i],
            "times_faster": measured[0] / measured[i],
        }
        for i, cutoffs in enumerate(choices)
    ]


def unigram_probs(ids: Tensor, vocabulary_size: int) -> Tensor:
    """The relative frequency of each word: `[N]` → `[V]`."""
    return ids.bincount(minlength=vocabulary_size).double() / len(ids)


def candidates(vocabulary_size: int) -> list[int]:
    """Where a cluster may start or end: 0, V, and the numbers between them that have two significant digits."""
    numbers = {digits * 10**zeros for digits in range(1, 100) for zeros in range(len(str(vocabulary_size)))}
    return [0, *sorted(each for each in numbers if each < vocabulary_size), vocabulary_size]


def terms(rows: Tensor, words: Tensor, width: Tensor) -> Tensor:
    """What the time of a cluster is linear in, for `rows` tokens that use it: `[…]` each → `[…, 6]`.

    A constant; reading tokens and words; the softmax and the products, which are proportional to rows · words.
    """
    one = torch.ones_like(rows * words * width)
    parts = [one, rows, words, words * width, rows * words, rows * words * width]
    return torch.stack([one * part for part in parts], dim=-1)


def fit(shapes: Sequence[tuple[int, int, int]], seconds: Sequence[float]) -> Tensor:
    """The coefficients `[6]` of `terms`, by least squares of relative errors."""
    times = torch.tensor(seconds, dtype=torch.double)[:, None]
    features = terms(*torch.tensor(shapes, dtype=torch.double).unbind(1))
    scale = features.amax(0)
    solution = torch.linalg.lstsq(features / scale / times, torch.ones_like(times), driver="gelsd").solution
    return solution[:, 0] / scale


def cluster_costs(
    coefficients: Tensor, probs: Tensor, positions: Sequence[int], widths: Sequence[int], tokens: int
) -> Tensor:
    """The seconds of each cluster if it went from one position to another: `[C, P, P]`, infinite if it had no words.

    All tokens use the first cluster, which has an entry for each of the others; these are used by the tokens whose
    targets they hold, padded to a multiple.
    """
    bounds = torch.tensor(positions)
    before = F.pad(probs.cumsum(0), (1, 0))[bounds]
    words = (bounds - bounds[:, None]).double()
    used = tokens * (before - before[:, None]) + SHAPE_MULTIPLE / 2
    width, *narrower = torch.tensor(widths, dtype=torch.double)
    features = [terms(torch.full_like(used, tokens), words + len(narrower), width)]
    features += [terms(used, words, each) for each in narrower]
    return (torch.stack(features) @ coefficients).where(words > 0, math.inf)


def cheapest_path(costs: Tensor) -> list[int]:
    """The positions that divide clusters of least total cost, by dynamic programming: `[C, P, P]` → C - 1 indices."""
    least, starts = costs[0, 0], []  # of the clusters so far, if the last one ends at each position
    for cluster in costs[1:]:
        least, start = (least[:, None] + cluster).min(0)
        starts.append(start.tolist())
    path = [len(least) - 1]
    for start in reversed(starts):
        path.insert(0, start[path[0]])
    return path[:-1]


def cluster_step(hidden: Tensor, rows: int, words: int, width: int, precision: torch.autocast) -> Callable[[], None]:
    """Does the forward and backward pass of a cluster that is used by `rows` tokens."""
    device = hidden.device
    project, layer = projection(hidden.size(1), width).to(device), nn.Linear(width, words, device=device)
    # the first cluster gathers no rows
    used = slice(None) if rows == len(hidden) else torch.arange(rows, device=device)
    ids = torch.randint(words, (rows,), device=device)
    return _step(
        nn.ModuleList([project, layer]),
        lambda: linear_cross_entropy(project(hidden[used]), layer.weight, layer.bias, ids),
        precision,
    )


def head_step(head: AdaptiveHead, hidden: Tensor, targets: Tensor, precision: torch.autocast) -> Callable[[], None]:
    """Does the forward and backward pass of a head for the targets `[T, B]` of a window."""
    return _step(head, lambda: head.nll(hidden[: targets.numel()].view(*targets.shape, -1), targets), precision)


def _step(module: nn.Module, nll: Callable[[], Tensor], precision: torch.autocast) -> Callable[[], None]:
    def step() -> None:
        module.zero_grad()
        with precision:
            loss = nll().mean()
        loss.backward()
        synchronize(loss.device)

    return step


def medians(steps: Sequence[Callable[[], None]], rounds: int) -> list[float]:
    """The seconds of each step, which take turns; the first round is a warm-up."""
    seconds: list[list[float]] = [[] for _ in steps]
    for _ in range(rounds + 1):
        for step, own in zip(steps, seconds, strict=True):
            start = time.perf_counter()
            step()
            own.append(time.perf_counter() - start)
    return [statistics.median(own[1:]) for own in seconds]
