"""What an evaluation leaves: tables on the terminal, a JSON file, plots for TensorBoard."""

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

from lm.evaluation.evaluator import Result
from lm.evaluation.perplexity import perplexity

RANKS = (1, 11, 101, 1_001, 10_001)  # where a band of words begins; the most frequent word is the first
POSITIONS = (1, 2, 3, 5, 9, 17, 33, 65, 129, 257)  # words before a word in its window


def summary(result: Result) -> dict[str, Any]:
    """All that there is to say about a result, for JSON; losses in nats, seconds are those of the whole pass."""
    measurement = result.measurement
    return {
        "name": result.name,
        "values": result.values,
        "loss": result.loss,
        "ppl": perplexity(result.loss),
        "tokens": len(result.nats),
        "complete": measurement.complete,
        "seconds": measurement.seconds,
        "tokens_per_second": len(result.nats) / measurement.seconds,
        "by_frequency_rank": bands(result.nats, measurement.targets + 1, RANKS),
        "by_position_in_window": bands(result.nats, measurement.positions, POSITIONS),
    }


def bands(nats: Tensor, values: Tensor, starts: Sequence[int]) -> list[dict[str, Any]]:
    """Perplexity and tokens of each band of `values`, `[N]`, that has any; the last one has no end."""
    found = []
    for start, end in pairwise([*starts, math.inf]):
        within = nats[(values >= start) & (values < end)]
        if len(within):
            last, ppl = None if end == math.inf else int(end) - 1, perplexity(within.mean().item())
            found.append({"first": int(start), "last": last, "ppl": ppl, "tokens": len(within)})
    return found


def print_report(summaries: Sequence[Mapping[str, Any]]) -> None:
    """Print a row for each result, then the first and the last by frequency and by position."""
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
        others = [{span(band): f"{band['ppl']:,.2f}" for band in row[key]} for row in shown]
        for band in shown[0][key]:
            table.add_row(span(band), f"{band['tokens']:,}", *(other.get(span(band), "") for other in others))
        console.print(table)


def span(band: Mapping[str, Any]) -> str:
    """The name of a band."""
    if band["last"] is None:
        return f"{band['first']:,} –"
    return f"{band['first']:,}" if band["first"] == band["last"] else f"{band['first']:,} – {band['last']:,}"


def write_plots(summaries: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Write the report's pictures for TensorBoard, in the place of those that an earlier evaluation has left."""
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


def lines(summaries: Sequence[Mapping[str, Any]], key: str, label: str) -> Figure:
    """A line over bands for each result."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    for row in summaries:
        axis.plot([span(band) for band in row[key]], [band["ppl"] for band in row[key]], marker="o", label=row["name"])
    axis.set_yscale("log")
    axis.set_xlabel(label)
    axis.set_ylabel("perplexity")
    axis.grid(alpha=0.3)
    axis.legend()
    return figure
