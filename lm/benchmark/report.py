"""The results of a race: rows, a table, a bar chart."""

import platform
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from rich.table import Table

from lm.benchmark.race import Side

INSTRUCTION_SETS = ("avx2", "avx512_f", "avx512_bf16", "amx_bf16")  # those that decide how fast matrices multiply


def rows(work: str, model: str, sides: Sequence[Side]) -> Iterator[dict[str, Any]]:
    """For each side its median in milliseconds, the quartiles' distance, memory, loss, and ratios to the first side.

    `times_faster` is above 1 where the side is faster than the first, `memory` below 1 where it needs less; `loss` is
    the mean of the last third of the training steps in nats.
    """
    first_seconds, first_megabytes = statistics.median(sides[0].seconds), sides[0].megabytes
    for side in sides:
        seconds = statistics.median(side.seconds)
        lower, _, upper = statistics.quantiles(side.seconds, n=4) if len(side.seconds) > 1 else (0, 0, 0)
        last_third = side.losses[-(len(side.losses) // 3) :]
        yield {
            "work": work,
            "model": model,
            "side": side.name,
            "milliseconds": 1000 * seconds,
            "spread": 1000 * (upper - lower),
            "times_faster": first_seconds / seconds,
            "megabytes": side.megabytes,
            "memory": side.megabytes / first_megabytes if first_megabytes else None,
            "loss": statistics.mean(last_third) if last_third else None,
            "steps": len(side.losses) or None,
        }


def machine() -> dict[str, Any]:
    """The machine and versions that the numbers hold for."""
    cpu = torch.cpu.get_capabilities()
    return {
        "processor": cpu.get("cpu_name") or platform.processor(),
        "instruction_sets": [name for name in INSTRUCTION_SETS if cpu.get(name)],
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """For the terminal."""
    result = Table(*rows[0])
    for row in rows:
        cells = row.values()
        result.add_row(*(f"{cell:,.3g}" if isinstance(cell, float) else str(cell or "") for cell in cells))
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
    axis.set(xscale="log", xlabel="times faster than the plain loop (many streams: than one)")
    axis.margins(x=0.15)
    return figure
