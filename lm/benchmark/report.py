"""What a race came to: rows, a table, a bar chart."""

import platform
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from rich.table import Table

from lm.benchmark.plan import Race
from lm.benchmark.race import Result

UNITS = {
    "train": "training step",
    "evaluate": "evaluation window",
    "generate": "word, one text",
    "streams": "word, many texts",
    "read": "corpus ready",
}


def rows(race: Race, results: Mapping[str, Result]) -> Iterator[dict[str, Any]]:
    """For each side its median in milliseconds, the quartiles' distance, memory, loss, and ratios to the first side.

    `times_faster` is above 1 where the side is faster than the first, `memory` below 1 where it needs less; the loss is
    the mean of the last third of the training steps.
    """
    first = next(iter(results.values()))
    for side, result in results.items():
        last_third = result.losses[-(len(result.losses) // 3) :]
        yield {
            "work": UNITS[race.work],
            "model": race.model,
            "side": side,
            "milliseconds": 1000 * statistics.median(result.seconds),
            "spread": 1000 * _spread(result.seconds),
            "times_faster": statistics.median(first.seconds) / statistics.median(result.seconds),
            "megabytes": result.megabytes,
            "memory": result.megabytes / first.megabytes,
            "loss": statistics.mean(last_third) if last_third else None,
            "steps": len(result.losses) or None,
        }


def machine() -> dict[str, Any]:
    """What the numbers hold for."""
    processor = torch.cpu.get_capabilities()
    fast = [name for name in ("avx512_bf16", "amx_bf16") if processor.get(name)]
    name = processor.get("cpu_name") or platform.processor()
    return {"processor": name, "bfloat16": fast, "threads": torch.get_num_threads(), "torch": torch.__version__}


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """For the terminal."""
    result = Table("work", "model", "side")
    for name in ("ms", "±", "times faster", "step's MB", "memory", "loss"):
        result.add_column(name, justify="right")
    for row in rows:
        loss = "" if row["loss"] is None else f"{row['loss']:.3f}"
        result.add_row(
            *(row["work"], row["model"], row["side"], f"{row['milliseconds']:,.3g}", f"{row['spread']:.2g}"),
            *(f"{row['times_faster']:.2f} ×", f"{row['megabytes']:,.0f}", f"{row['memory']:.2f} ×", loss),
        )
    return result


def chart(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """A bar for each side but the first of its race: how many times faster it is."""
    shown = [row for row in rows if row["side"] not in ("plain", "1 stream")][::-1]
    figure = Figure(figsize=(8, 1 + 0.32 * len(shown)), layout="constrained")
    axis = figure.subplots()
    names = [f"{row['work']}: {row['model']} {row['side']}" for row in shown]
    bars = axis.barh(names, [row["times_faster"] for row in shown], color="#4878a8")
    axis.bar_label(bars, fmt="%.1f ×", padding=3)
    axis.axvline(1, color="black", linewidth=0.8)
    axis.set_xscale("log")
    axis.margins(x=0.15)
    axis.set_xlabel("times faster than the plain loop (many texts: than one text)")
    return figure


def _spread(seconds: Sequence[float]) -> float:
    """The distance between the quartiles."""
    if len(seconds) < 2:
        return 0.0
    lower, _, upper = statistics.quantiles(seconds, n=4)
    return upper - lower
