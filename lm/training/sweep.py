"""The table at the end of a multirun: each job, its overrides and its results."""

import atexit
import csv
import io
import json
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lm.config import signals
from lm.config.cli import ERROR_FILE, STOPPED
from lm.errors import UserError
from lm.files.text import write_text

METRICS_FILE = "metrics.json"  # in the folder of a job that succeeded
COLUMNS = ("job", "overrides", "val/loss", "val/ppl", "test/ppl", "status")


class SweepTable(Callback):
    """When a multirun ends, collects the results of its jobs, prints them as a table and writes `sweep.csv`."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Register the table: Hydra's own end-of-multirun hook is not called when a job has failed."""
        atexit.register(report, Path(config.hydra.sweep.dir))


def report(folder: Path) -> None:
    """Collect and write the rows, and print how the jobs differ, lowest validation perplexity first."""
    rows = [job_row(hydra_folder, folder) for hydra_folder in sorted(folder.rglob(".hydra"))]
    rows.sort(key=lambda row: row["val/ppl"] or float("inf"))
    if not rows:
        return
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    try:
        written = str(write_text(text.getvalue(), folder / "sweep.csv"))
    except UserError as error:  # the table is still printed
        written = str(error)
    table = Table(*COLUMNS)
    shared = set.intersection(*(set(row["overrides"].split()) for row in rows)) if len(rows) > 1 else set()
    for row in rows:
        own = " ".join(override for override in row["overrides"].split() if override not in shared)
        table.add_row(*(_shown(value) for value in (row | {"overrides": own}).values()))
    Console().print(table)
    Console().print(f"sweep: {written}", soft_wrap=True, highlight=False, markup=False)


def job_row(hydra_folder: Path, sweep: Path) -> dict[str, Any]:
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
        **{name: metrics.get(name) for name in ("val/loss", "val/ppl", "test/ppl")},
        "status": error if error == STOPPED else f"failed: {error}" if error else "done",
    }


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.exists() else ""


def _shown(value: Any) -> str:
    return "" if value is None else f"{value:,.2f}" if isinstance(value, float) else escape(str(value))
