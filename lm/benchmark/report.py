"""The results of a race: rows, a table, a dot plot."""

import os
import platform
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from rich.markup import escape
from rich.table import Table

from lm.benchmark.limits import gflops
from lm.benchmark.race import Side
from lm.plots.learning_curves import COLOURS
from lm.plots.log_scale import log_ticks

# variables by which libraries are told to use fewer of them
HOLD_BACK = ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS")
LIMIT = " limit"  # ends the name of the side that shows what the machine allows, see `lm.benchmark.limits`
MARKERS = "osD^vP*X"
INSTRUCTION_SETS = ("avx2", "avx512_f", "avx512_bf16", "amx_bf16")  # those that decide how fast matrices multiply


def rows(work: str, model: str, sides: Sequence[Side]) -> Iterator[dict[str, Any]]:
    """For each side its median in milliseconds, the quartiles' distance, memory, loss, and ratios to the first side.

    `times_faster` is above 1 where the side is faster than the first, `memory` below 1 where it needs less; `limit` is
    the share of its time in which the machine could do it, where there is a side for that; `loss` is the mean of the
    last third of the training steps in nats.
    """
    limits = {side.name: statistics.median(side.seconds) for side in sides if side.name.endswith(LIMIT)}
    first_seconds, first_megabytes = statistics.median(sides[0].seconds), sides[0].megabytes
    for side in sides:
        seconds = statistics.median(side.seconds)
        quartiles = statistics.quantiles(side.seconds, n=4) if len(side.seconds) > 1 else None
        last_third = side.answers[-(len(side.answers) // 3) :]
        limit = limits.get(side.name + LIMIT)
        yield {
            "work": work,
            "model": model,
            "side": side.name,
            "ms": 1000 * seconds,
            "spread": quartiles and 1000 * (quartiles[2] - quartiles[0]),
            "times_faster": first_seconds / seconds,
            "limit": limit and limit / seconds,
            "MB": side.megabytes,
            "memory": side.megabytes / first_megabytes if first_megabytes else None,
            "loss": statistics.mean(last_third) if last_third else None,
            "steps": len(side.answers) or None,
        }


def machine(device: torch.device) -> dict[str, Any]:
    """The machine and versions that the numbers hold for."""
    cpu = torch.cpu.get_capabilities()
    return {
        "processor": cpu.get("cpu_name") or platform.processor(),
        "instruction_sets": [name for name in INSTRUCTION_SETS if cpu.get(name)],
        "held_back_to": {name: os.environ[name] for name in HOLD_BACK if name in os.environ},
        "gpu": torch.cuda.get_device_name() if device.type == "cuda" else None,
        "gflops": gflops(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """One race's rows for the terminal; its work and model are in the title."""
    shown = [name for name in rows[0] if name not in ("work", "model", "curve")]
    result = Table(*shown, title=escape(f"{rows[0]['work']} {rows[0]['model']}".strip()), title_justify="left")
    for row in rows:
        result.add_row(*(_cell(row[name]) for name in shown))
    return result


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return "" if value is None else escape(str(value))


def chart(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """A dot plot: a line for each race, and on it each side at how many times faster it is than the race's first.

    Sides of one name have one colour and marker in all races.
    """
    shown = [row for row in rows if not row["side"].endswith(LIMIT)]
    races = list(dict.fromkeys(map(_race, shown)))
    figure = Figure(figsize=(9, 1.2 + 0.3 * len(races)), layout="constrained", facecolor="white")
    axis = figure.subplots()
    for i, side in enumerate(dict.fromkeys(row["side"] for row in shown)):
        own = [row for row in shown if row["side"] == side]
        x, y = [row["times_faster"] for row in own], [races.index(_race(row)) for row in own]
        colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        axis.plot(x, y, marker, color=colour, markersize=7, alpha=0.85, label=side)
    axis.axvline(1, color="black", linewidth=0.8, zorder=0)
    axis.set_yticks(range(len(races)), races)
    axis.invert_yaxis()
    axis.set(xscale="log", xlabel="times faster than the plain loop (many streams: than one)")
    log_ticks(axis.xaxis)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def _race(row: Mapping[str, Any]) -> str:
    return f"{row['work']}: {row['model']}" if row["model"] else row["work"]
