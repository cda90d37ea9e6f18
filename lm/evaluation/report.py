"""The output of an evaluation: tables on the terminal, a JSON file, figures for TensorBoard."""

import math
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from lm.evaluation.evaluator import EvaluationResult
from lm.evaluation.perplexity import perplexity

RANKS = (1, 11, 101, 1_001, 10_001)  # the lower edges of the bins; 1 is the most frequent word
POSITIONS = (1, 2, 3, 5, 9, 17, 33, 65, 129, 257)  # lower edges; the number of words before a word in its window


def summarize(result: EvaluationResult) -> dict[str, Any]:
    """A result for JSON; the loss in nats, the seconds those of the whole pass."""
    scores = result.scores
    return {
        "name": result.name,
        "values": result.values,
        "loss": result.loss,
        "ppl": perplexity(result.loss),
        "tokens": len(result.nll),
        "complete": scores.complete,
        "seconds": scores.seconds,
        "tokens_per_second": len(result.nll) / scores.seconds,
        "by_frequency_rank": binned(result.nll, scores.targets + 1, RANKS),
        "by_position_in_window": binned(result.nll, scores.positions, POSITIONS),
    }


def binned(nll: Tensor, values: Tensor, starts: Sequence[int]) -> list[dict[str, Any]]:
    """Perplexity and number of tokens in each non-empty bin of `values`, `[N]`; the last bin is open-ended."""
    bins = []
    for start, end in pairwise([*starts, math.inf]):
        inside = nll[(values >= start) & (values < end)]
        if len(inside):
            last, ppl = None if end == math.inf else int(end) - 1, perplexity(inside.mean().item())
            bins.append({"first": int(start), "last": last, "ppl": ppl, "tokens": len(inside)})
    return bins


def label(each: Mapping[str, Any]) -> str:
    """A bin's label: "1", "2 – 10" or "11 –"."""
    first, last = f"{each['first']:,}", each["last"]
    return f"{first} –" if last is None else first if each["first"] == last else f"{first} – {last:,}"


def print_report(summaries: Sequence[Mapping[str, Any]]) -> None:
    """Print a row per result, then break down the first and the last by frequency and by position."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    table = Table("scored with", "values", "loss (nats)", "perplexity", "tokens scored", "seconds", "tokens/s")
    for row in summaries:
        values = " ".join(f"{name}={value:g}" for name, value in row["values"].items())
        numbers = f"{row['loss']:.4f}", f"{row['ppl']:,.2f}", f"{row['tokens']:,}"
        table.add_row(row["name"], values, *numbers, f"{row['seconds']:.1f}", f"{row['tokens_per_second']:,.0f}")
    console.print(table)

    shown = [summaries[0], *summaries[1:][-1:]]
    for key, title in (
        ("by_frequency_rank", "rank of the word by frequency"),
        ("by_position_in_window", "words before it in its window"),
    ):
        table = Table(title, "tokens", *(f"perplexity, {row['name']}" for row in shown))
        perplexities = [{label(each): f"{each['ppl']:,.2f}" for each in row[key]} for row in shown]
        for each in shown[0][key]:  # an interrupted pass may lack some bins
            table.add_row(label(each), f"{each['tokens']:,}", *(found.get(label(each), "") for found in perplexities))
        console.print(table)


def write_figures(summaries: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Write the report's figures for TensorBoard, replacing those of an earlier evaluation."""
    for earlier in folder.glob("events.out.tfevents.*"):
        earlier.unlink()
    with SummaryWriter(str(folder)) as writer:
        writer.add_figure("evaluation/perplexity", bars(summaries))
        writer.add_figure("evaluation/by_frequency", lines(summaries, "by_frequency_rank", "rank of the word"))
        writer.add_figure("evaluation/by_position", lines(summaries, "by_position_in_window", "words before it"))


def bars(summaries: Sequence[Mapping[str, Any]]) -> Figure:
    """A bar for each result's perplexity."""
    figure = Figure(figsize=(7, 1 + 0.4 * len(summaries)), layout="constrained")
    axis = figure.subplots()
    lengths = [row["ppl"] if math.isfinite(row["ppl"]) else 0.0 for row in summaries]  # matplotlib draws no infinity
    drawn = axis.barh([row["name"] for row in summaries], lengths)
    axis.bar_label(drawn, [f"{row['ppl']:,.1f}" for row in summaries], padding=3)
    axis.margins(x=0.12)
    axis.invert_yaxis()
    axis.set_xlabel("perplexity")
    return figure


def lines(summaries: Sequence[Mapping[str, Any]], key: str, xlabel: str) -> Figure:
    """Perplexity over bins, a line for each result."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    for row in summaries:
        axis.plot([label(each) for each in row[key]], [each["ppl"] for each in row[key]], "o-", label=row["name"])
    axis.set(yscale="log", xlabel=xlabel, ylabel="perplexity")
    axis.grid(alpha=0.3)
    axis.legend()
    return figure
