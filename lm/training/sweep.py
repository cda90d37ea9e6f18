"""The table at the end of a multirun: its jobs, their overrides and results; those that differ in the seed as one."""

import atexit
import csv
import io
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lm.config import signals
from lm.config.cli import STOPPED
from lm.errors import UserError
from lm.files.errors import warn
from lm.files.text import write_text
from lm.training.runs import COSTS, SCORES, UNFINISHED, Row, groups_of, mean_and_std, read_run, shown_rows, without_seed

COLUMNS = ("job", "overrides", "seed", *SCORES, *COSTS, "status")
SPREADS = tuple(f"{name}/{what}" for name in SCORES for what in ("mean", "std"))
GROUP_COLUMNS = ("jobs", "overrides", "seeds", "n", *SPREADS, *COSTS)
SHOWN_COSTS = ("parameters", "tokens_per_second", "minutes")
WIDTH_IN_FILE = 140  # of the printed table, in characters; on a terminal it is the terminal's
SHOWN = ("jobs", "overrides", "val/ppl", "test/ppl", "parameters", "tokens/s", "minutes", "status")


class SweepTable(Callback):
    """When a multirun ends, collects the results of its jobs, prints them as a table and writes them as CSV."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Register the table: Hydra's own end-of-multirun hook is not called when a job has failed."""
        atexit.register(report, Path(config.hydra.sweep.dir))


def report(folder: Path) -> None:
    """Collect the jobs, write `sweep.csv` and `sweep_groups.csv`, and print how the groups differ, the best first."""
    rows = sorted(job_rows(folder), key=lambda row: row["val/ppl"] or math.inf)
    if not rows:
        return
    groups = groups_of(rows)
    table = Table(*SHOWN)
    for name, column in zip(SHOWN, table.columns, strict=True):
        column.no_wrap, column.overflow = name in ("parameters", "tokens/s", "minutes"), "fold"
    for cells in shown_rows(rows, groups, SHOWN_COSTS):
        table.add_row(*map(escape, cells))
    Console(width=None if sys.stdout.isatty() else WIDTH_IN_FILE).print(table)
    _write_csv("sweep", folder / "sweep.csv", COLUMNS, rows)
    _write_csv("means over seeds", folder / "sweep_groups.csv", GROUP_COLUMNS, list(map(group_row, groups)))


def job_rows(sweep: Path) -> Iterator[Row]:
    """The rows of a sweep's jobs, none of which is still running."""
    for job in sorted(folder.parent for folder in sweep.rglob(".hydra")):
        try:
            row = read_run(job, str(job.relative_to(sweep)))
        except UserError as error:
            warn(str(error))
            continue
        if row["status"] == UNFINISHED:
            row["status"] = STOPPED if signals.received() else "failed: it has left no result"
        yield row


def group_row(group: Sequence[Row]) -> Row:
    """The row of jobs that differ in the seed alone: means, and standard deviations of the scores."""
    row: Row = {
        "jobs": " ".join(job["job"] for job in group),
        "overrides": without_seed(group[0]["overrides"]),
        "seeds": " ".join(str(job["seed"]) for job in group),
        "n": len(group),
    }
    for name in SCORES:
        row[f"{name}/mean"], row[f"{name}/std"] = mean_and_std(group, name)
    return row | {name: mean_and_std(group, name)[0] for name in COSTS}


def _write_csv(name: str, path: Path, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Write rows, and print the path, or why it could not be written."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    try:
        written = str(write_text(text.getvalue(), path))
    except UserError as error:
        written = str(error)
    Console().print(f"{name}: {written}", soft_wrap=True, highlight=False, markup=False)
