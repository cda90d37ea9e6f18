"""Run folders as data: config, results and curve of each, and which runs differ in the seed alone.

A folder may be untrusted: its files are parsed as plain data, and nothing in them is resolved or instantiated.
"""

import csv
import json
import math
import re
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from lm.config.cli import ERROR_FILE, STOPPED
from lm.config.plain_data import check_plain
from lm.errors import UserError
from lm.files.text import visible

Row = dict[str, Any]

CONFIG_FILE = ".hydra/config.yaml"  # in a run folder, as Hydra has composed it
OVERRIDES_FILE = ".hydra/overrides.yaml"
METRICS_FILE = "metrics.json"  # in the folder of a run that has ended with results
SCORES = ("val/loss", "val/ppl", "test/ppl")  # of METRICS_FILE; a group has their means and standard deviations
# and these; with the decimals to print
COSTS = {"parameters": 0, "train/tokens": 0, "minutes": 1, "tokens_per_second": 0, "epochs": 0, "steps": 0}
DONE, UNFINISHED = "done", "unfinished"
# of the config, what changes no result, besides the seed
NOT_COMPARED = ("seed", "ckpt", "run_dir", "test", "logger")
LARGEST = 64 * 2**20  # bytes of a file
COLUMNS = {"train/minutes", "train/tokens", "step", "val/loss"}  # of a validation in the CSV


def run_folders(given: Path) -> Iterator[tuple[str, Path]]:
    """Each run in a folder, which may be one itself or a sweep's: its name and its folder."""
    for hydra_folder in sorted(given.rglob(".hydra")):
        folder = hydra_folder.parent
        yield f"{given.resolve().name}/{folder.relative_to(given)}".removesuffix("/."), folder


def read_run(folder: Path, name: str) -> Row:
    """The row of a run, in which what is not known is None.

    Raises:
        UserError: where the folder is damaged, or not one of scripts/train.py.
    """
    config = parsed(folder / CONFIG_FILE, yaml.safe_load)
    overrides = parsed(folder / OVERRIDES_FILE, yaml.safe_load) or []
    if not (isinstance(config, dict) and all(isinstance(config.get(part), dict) for part in ("model", "data"))):
        raise UserError(f"{folder} is no run of scripts/train.py: its config has no model and data.")
    results = parsed(folder / METRICS_FILE, json.loads)
    if not isinstance(overrides, list) or not isinstance(results or {}, dict):
        raise UserError(f"{folder} is damaged: its overrides or its {METRICS_FILE} are of another kind.")
    curve = read_curve(folder)
    if results and curve and curve[-1]["step"] > (_number(results.get("steps")) or math.inf):
        results = None  # of before the run was resumed
    metrics = _so_far(curve) if results is None else results
    return {
        "job": visible(name),
        "text": visible(_name_of_text(config["data"])),
        "overrides": " ".join(map(str, overrides)),
        "seed": config.get("seed") if isinstance(config.get("seed"), int) else None,
        **{name: _number(metrics.get(name)) for name in (*SCORES, *COSTS)},
        "status": _status(results, visible(_text(folder / ERROR_FILE))),
        "config": json.dumps(_compared(config), sort_keys=True),
        "curve": curve,
    }


def read_curve(folder: Path) -> list[dict[str, float]]:
    """The validations of a run, as COLUMNS.

    A resumed run has a CSV for each start, in `csv_STEP`, and trains again from that step on.
    """
    curve: list[dict[str, float]] = []
    for start, file in sorted((_start(file.parent.name), file) for file in folder.glob("csv*/metrics.csv")):
        curve = [point for point in curve if point["step"] <= start]
        for row in parsed(file, lambda text: [*csv.DictReader(text.splitlines())], plain=False):
            found = {name: _number(row.get(name)) for name in COLUMNS}
            point = {name: value for name, value in found.items() if value is not None}
            if {"step", "val/loss"} <= point.keys():
                curve.append(point | {"step": point["step"] + 1})  # the CSV counts from 0
    return curve


def groups_of(rows: Sequence[Row]) -> list[list[Row]]:
    """The runs that are done, those together whose configs differ in the seed alone; the best of each text first."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if row["status"] == DONE:
            groups.setdefault(row["config"], []).append(row)
    return sorted(groups.values(), key=_text_and_ppl)


def _text_and_ppl(group: Sequence[Row]) -> tuple[str, float]:
    return group[0]["text"], mean_and_std(group, "val/ppl")[0] or math.inf


def mean_and_std(group: Sequence[Row], name: str) -> tuple[float | None, float | None]:
    """The mean and the sample standard deviation (over n - 1) of a column; None of too few values."""
    values = [job[name] for job in group if job[name] is not None]
    mean = statistics.mean(values) if values else None  # whole numbers have a whole mean, if it is one
    return mean, statistics.stdev(values) if len(values) > 1 else None


def with_unfinished(rows: Sequence[Row], groups: Sequence[Sequence[Row]]) -> list[Sequence[Row]]:
    """The groups, and each run that is not done by itself."""
    return [*groups, *([row] for row in rows if row["status"] != DONE)]


def shown_rows(
    rows: Sequence[Row], groups: Sequence[Sequence[Row]], costs: Sequence[str] = tuple(COSTS)
) -> Iterator[list[str]]:
    """The cells of each group, then of each run that is not done; overrides that all runs share are left out.

    They are the runs, overrides, validation and test perplexity, `costs`, and the status.
    """
    shared = set.intersection(*(set(row["overrides"].split()) for row in rows)) if len(rows) > 1 else set()
    for group in with_unfinished(rows, groups):
        overrides = group[0]["overrides"] if len(group) == 1 else without_seed(group[0]["overrides"])
        yield [
            " ".join(job["job"] for job in group),
            " ".join(override for override in overrides.split() if override not in shared),
            *(_score(group, name) for name in ("val/ppl", "test/ppl")),
            *(_formatted(mean_and_std(group, name)[0], COSTS[name]) for name in costs),
            group[0]["status"],
        ]


def without_seed(overrides: str) -> str:
    """The overrides but for the seed's."""
    return " ".join(override for override in overrides.split() if not override.startswith("seed="))


def _score(group: Sequence[Row], name: str) -> str:
    mean, std = mean_and_std(group, name)
    return _formatted(mean, 2) if std is None else f"{_formatted(mean, 2)} ± {std:,.2f} ({len(group)})"


def _formatted(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _status(results: Mapping[str, Any] | None, error: str) -> str:
    if error:
        return error if error == STOPPED else f"failed: {error}"
    if results is None:
        return UNFINISHED
    if results.get("val/ppl", 0) is None:  # JSON has no infinity
        return f"failed: it has diverged, to a validation loss of {results.get('val/loss') or 'nan'}"
    return DONE


def _so_far(curve: Sequence[Mapping[str, float]]) -> dict[str, float | None]:
    """What the curve tells of a run without results."""
    if not curve:
        return {}
    best, last = min(point["val/loss"] for point in curve), curve[-1]
    scores = {"val/loss": best, "val/ppl": math.exp(best) if best < 700 else None}
    costs = {"train/tokens": "train/tokens", "minutes": "train/minutes", "steps": "step"}
    return scores | {name: last.get(column) for name, column in costs.items()}


def _compared(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the results depend on, but for the seed: without the places of logs, caches, and of a text with a name."""
    data = {name: value for name, value in config["data"].items() if name != "cache_dir"}
    if not _is_own_text(data):
        data.pop("root", None)
    return {name: value for name, value in config.items() if name not in NOT_COMPARED} | {"data": data}


def _is_own_text(data: Mapping[str, Any]) -> bool:
    """Whether a config's data are whatever text its root holds, not a corpus with a name."""
    source = data.get("source")
    return not isinstance(source, dict) or source.get("_target_") == "lm.data.sources.file_or_folder"


def _name_of_text(data: Mapping[str, Any]) -> str:
    name, root = data.get("name") or "text", data.get("root")
    return f"{name} {root}" if root and _is_own_text(data) else str(name)


def _start(name: str) -> int:
    """The step at which the run began whose curves a folder has."""
    return int(found[1]) if (found := re.fullmatch(r"csv_(\d{1,18})", name)) else 0


def _number(value: Any) -> float | None:
    """A finite number, also as text; else None."""
    try:
        number = float(value) if isinstance(value, str) else value
    except ValueError:
        return None
    is_number = isinstance(number, int | float) and not isinstance(number, bool)
    return number if is_number and abs(number) < 1e300 else None


def parsed(file: Path, parse: Callable[[str], Any], plain: bool = True) -> Any:
    """A file's content, which must be plain data if `plain`; None where there is no such file."""
    try:
        content = parse(_text(file)) if file.is_file() else None
        if plain:
            check_plain(content, file.stem, interpolated=True)
    except UserError as error:
        raise UserError(f"{file} is refused: {error}.") from error
    except Exception as error:  # untrusted files may contain anything
        raise UserError(f"{file} is damaged ({type(error).__name__}).") from error
    return content


def _text(file: Path) -> str:
    if not file.is_file():
        return ""
    if file.stat().st_size > LARGEST:
        raise UserError(f"it is larger than {LARGEST // 2**20} MB")
    return file.read_text(encoding="utf-8", errors="replace")
