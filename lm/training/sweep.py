"""The table at the end of a multirun: its jobs, their overrides and results; those that differ in the seed as one."""

import atexit
import csv
import io
import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lm.config import signals
from lm.config.cli import ERROR_FILE, STOPPED
from lm.errors import UserError
from lm.files.text import write_text

Row = dict[str, Any]

METRICS_FILE = "metrics.json"  # in the folder of a job that succeeded
SCORES = ("val/loss", "val/ppl", "test/ppl")  # of METRICS_FILE; a group has their means and standard deviations
COSTS = {"parameters": 0, "tokens_per_second": 0, "minutes": 1}  # and these; with the decimals to print
COLUMNS = ("job", "overrides", "seed", *SCORES, *COSTS, "status")
SPREADS = tuple(f"{name}/{what}" for name in SCORES for what in ("mean", "std"))
GROUP_COLUMNS = ("jobs", "overrides", "seeds", "n", *SPREADS, *COSTS)
WIDTH_IN_FILE = 140  # of the printed table, in characters; on a terminal it is the terminal's
SHOWN = ("jobs", "overrides", "val/ppl", "test/ppl", "parameters", "tokens/s", "minutes", "status")


class SweepTable(Callback):
    """When a multirun ends, collects the results of its jobs, prints them as a table and writes them as CSV."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Register the table: Hydra's own end-of-multirun hook is not called when a job has failed."""
        atexit.register(report, Path(config.hydra.sweep.dir))


def report(folder: Path) -> None:
    """Collect the jobs, write `sweep.csv` and `sweep_groups.csv`, and print how the groups differ, the best first."""
    rows = [job_row(hydra_folder, folder) for hydra_folder in sorted(folder.rglob(".hydra"))]
    rows.sort(key=lambda row: row["val/ppl"] or float("inf"))
    if not rows:
        return
    groups = sorted(groups_of(rows), key=lambda group: mean_and_std(group, "val/ppl")[0] or float("inf"))
    table = Table(*SHOWN)
    for name, column in zip(SHOWN, table.columns, strict=True):
        column.no_wrap, column.overflow = name in ("parameters", "tokens/s", "minutes"), "fold"
    for cells in shown_rows(rows, groups):
        table.add_row(*map(escape, cells))
    Console(width=None if sys.stdout.isatty() else WIDTH_IN_FILE).print(table)
    _write_csv("sweep", folder / "sweep.csv", COLUMNS, rows)
    _write_csv("means over seeds", folder / "sweep_groups.csv", GROUP_COLUMNS, list(map(group_row, groups)))


def job_row(hydra_folder: Path, sweep: Path) -> Row:
    """The row of one job, from the folder where Hydra keeps its config."""
    job = hydra_folder.parent
    overrides = OmegaConf.to_container(OmegaConf.load(hydra_folder / "overrides.yaml"))
    assert isinstance(overrides, list)
    results, error = _text(job / METRICS_FILE), _text(job / ERROR_FILE)
    metrics = json.loads(results or "{}")
    if not results and not error:
        error = STOPPED if signals.received() else "it has left no result"
    if metrics.get("val/ppl", 0) is None and not error:  # JSON has no infinity
        error = f"it has diverged, to a validation loss of {metrics['val/loss'] or 'nan'}"
    return {
        "job": str(job.relative_to(sweep)),
        "overrides": " ".join(map(str, overrides)),
        "seed": _seed(hydra_folder / "config.yaml"),
        **{name: metrics.get(name) for name in (*SCORES, *COSTS)},
        "status": error if error == STOPPED else f"failed: {error}" if error else "done",
    }


def groups_of(rows: Sequence[Row]) -> list[list[Row]]:
    """The jobs that are done, those together that differ in the seed alone."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if row["status"] == "done":
            groups.setdefault(_without_seed(row["overrides"]), []).append(row)
    return list(groups.values())


def group_row(group: Sequence[Row]) -> Row:
    """The row of jobs that differ in the seed alone: means, and standard deviations of the scores."""
    row: Row = {
        "jobs": " ".join(job["job"] for job in group),
        "overrides": _without_seed(group[0]["overrides"]),
        "seeds": " ".join(str(job["seed"]) for job in group),
        "n": len(group),
    }
    for name in SCORES:
        row[f"{name}/mean"], row[f"{name}/std"] = mean_and_std(group, name)
    return row | {name: mean_and_std(group, name)[0] for name in COSTS}


def mean_and_std(group: Sequence[Row], name: str) -> tuple[float | None, float | None]:
    """The mean and the sample standard deviation (over n - 1) of a column; None of too few values."""
    values = [job[name] for job in group if job[name] is not None]
    mean = statistics.mean(values) if values else None  # whole numbers have a whole mean, if it is one
    return mean, statistics.stdev(values) if len(values) > 1 else None


def shown_rows(rows: Sequence[Row], groups: Sequence[Sequence[Row]]) -> Iterator[list[str]]:
    """The cells of each group, then of each job that is not done; overrides that all jobs share are left out."""
    shared = set.intersection(*(set(row["overrides"].split()) for row in rows)) if len(rows) > 1 else set()
    others = [[row] for row in rows if row["status"] != "done"]
    for group in (*groups, *others):
        overrides = group[0]["overrides"] if len(group) == 1 else _without_seed(group[0]["overrides"])
        yield [
            " ".join(job["job"] for job in group),
            " ".join(override for override in overrides.split() if override not in shared),
            *(_score(group, name) for name in ("val/ppl", "test/ppl")),
            *(_number(mean_and_std(group, name)[0], digits) for name, digits in COSTS.items()),
            group[0]["status"],
        ]


def _score(group: Sequence[Row], name: str) -> str:
    mean, std = mean_and_std(group, name)
    return _number(mean, 2) if std is None else f"{_number(mean, 2)} ± {std:,.2f} ({len(group)})"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _without_seed(overrides: str) -> str:
    return " ".join(override for override in overrides.split() if not override.startswith("seed="))


def _seed(file: Path) -> int | None:
    """The seed in a job's config, where it is written out."""
    try:
        return OmegaConf.select(OmegaConf.load(file), "seed")
    except (OSError, OmegaConfBaseException):
        return None


def _write_csv(name: str, path: Path, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Write rows, and print the path, or why it could not be written."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    try:
        written = str(write_text(text.getvalue(), path))
    except UserError as error:
        written = str(error)
    Console().print(f"{name}: {written}", soft_wrap=True, highlight=False, markup=False)


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.exists() else ""
