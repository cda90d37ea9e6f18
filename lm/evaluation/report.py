"""The output of an evaluation: tables on the terminal, a JSON file, figures for TensorBoard."""

import math
import sys
from collections.abc import Mapping, Sequence
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from lm.evaluation.evaluator import EvaluationResult
from lm.evaluation.perplexity import perplexity

RANKS = (1, 11, 101, 1_001, 10_001)  # the lower edges of the bins; 1 is the most frequent word
POSITIONS = (1, 2, 3, 5, 9, 17, 33, 65, 129, 257)  # lower edges; the number of words before a word in its window

BREAKDOWNS = {  # of a result, and their titles
    "by_frequency_rank": "rank of the word by frequency",
    "by_position_in_window": "words before it in its window",
}


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
    has_values = any(row["values"] for row in summaries)
    titles = ("loss (nats)", "perplexity", "tokens scored", "seconds", "tokens/s")
    table = Table("scored with", *(["values"] if has_values else []), *titles)
    for row in summaries:
        values = " ".join(f"{name}={value:g}" for name, value in row["values"].items())
        numbers = f"{row['loss']:.4f}", f"{row['ppl']:,.2f}", f"{row['tokens']:,}"
        speed = f"{row['seconds']:.1f}", f"{row['tokens_per_second']:,.0f}"
        table.add_row(escape(row["name"]), *([escape(values)] if has_values else []), *numbers, *speed)
    console.print(table)

    shown = [summaries[0], *summaries[1:][-1:]]
    for key, title in BREAKDOWNS.items():
        table = Table(title, "tokens", *(escape(f"perplexity, {row['name']}") for row in shown))
        perplexities = [{label(each): f"{each['ppl']:,.2f}" for each in row[key]} for row in shown]
        for each in shown[0][key]:  # an interrupted pass may lack some bins
            table.add_row(label(each), f"{each['tokens']:,}", *(found.get(label(each), "") for found in perplexities))
        console.print(table)


def write_figures(rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Write the report's figures for TensorBoard, replacing those of an earlier evaluation."""
    for earlier in folder.glob("events.out.tfevents.*"):
        earlier.unlink()
    with SummaryWriter(str(folder)) as writer:
        writer.add_figure("evaluation/perplexity", bars(rows))
        for key, title in BREAKDOWNS.items():
            writer.add_figure(f"evaluation/{key}", lines(rows, key, title))


def distinct(summaries: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The results without those equal to an earlier one, as with a temperature tuned to 1."""
    return list({row["loss"]: row for row in reversed(summaries)}.values())[::-1]


def bars(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """A bar for each result's perplexity."""
    figure = Figure(figsize=(7, 1 + 0.4 * len(rows)), layout="constrained")
    draw_bars(figure.subplots(), rows)
    return figure


def lines(rows: Sequence[Mapping[str, Any]], key: str, title: str) -> Figure:
    """Perplexity over bins."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    draw_lines(figure.subplots(), rows, key, title)
    _legend_outside(figure)
    return figure


def overview(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """The bars above the breakdowns."""
    height = 1 + 0.3 * len(rows)
    figure = Figure(figsize=(9, height + 3 * len(BREAKDOWNS)), layout="constrained")
    first, *others = figure.subplots(1 + len(BREAKDOWNS), height_ratios=[height, *(3 for _ in BREAKDOWNS)])
    draw_bars(first, rows)
    for axis, (key, title) in zip(others, BREAKDOWNS.items(), strict=True):
        draw_lines(axis, rows, key, title)
    if len(rows) > 1:
        _legend_outside(figure)
    return figure


def draw_bars(axis: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw a bar for each result's perplexity."""
    lengths = [row["ppl"] if math.isfinite(row["ppl"]) else 0.0 for row in rows]  # matplotlib draws no infinity
    drawn = axis.barh([row["name"] for row in rows], lengths)
    axis.bar_label(drawn, [f"{row['ppl']:,.1f}" for row in rows], padding=3)
    axis.margins(x=0.2)
    axis.invert_yaxis()
    axis.set_xlabel("perplexity")


def draw_lines(axis: Axes, rows: Sequence[Mapping[str, Any]], key: str, title: str) -> None:
    """Draw perplexity over bins, a line for each result of `rows_to_plot`."""
    for row, style in zip(rows_to_plot(rows), cycle(("o-", "s--", "^:", "D-.")), strict=False):
        axis.plot([label(each) for each in row[key]], [each["ppl"] for each in row[key]], style, label=row["name"])
    axis.set(yscale="log", xlabel=title, ylabel="perplexity")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:,g}")
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.3)


def rows_to_plot(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Few enough results for lines: those of one method, and the best of all."""
    best = min(rows, key=lambda row: row["loss"])
    return [row for row in rows if "," not in row["name"] or row is best]


def _legend_outside(figure: Figure) -> None:
    figure.legend(*figure.axes[-1].get_legend_handles_labels(), loc="outside right upper", frameon=False)
