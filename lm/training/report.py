"""The report of training runs: a Markdown table, and the curves to draw."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from lm.config.plain_data import cut
from lm.errors import UserError
from lm.training.runs import COSTS, DONE, Row, read_run, run_folders, shown_rows, with_unfinished

# the columns before and after those of COSTS
SCORES = ("run", "overrides", "validation perplexity", "test perplexity")
TITLES = {"train/tokens": "training tokens", "tokens_per_second": "tokens/s"}
AXES = {  # what `x` may be: the key of a curve's point, and its label
    "time": ("train/minutes", "minutes of training, without validation"),
    "tokens": ("train/tokens", "training tokens"),
    "steps": ("step", "optimizer steps"),
}


def read_runs(folders: Iterable[Path]) -> tuple[list[Row], list[str]]:
    """The rows of all runs in the folders, and a line for each folder without one, or with a damaged one."""
    rows: dict[Path, Row] = {}
    mistakes = []
    for given in folders:
        runs = [*run_folders(given)]
        if not runs:
            what = "holds no run of scripts/train.py" if given.is_dir() else "is no folder"
            mistakes.append(f"{given} {what}: give run folders, or folders of several.")
        for name, folder in runs:
            try:
                rows[folder.resolve()] = read_run(folder, name)
            except (UserError, OSError) as error:
                mistakes.append(f"Left out: {error}")
    return [*rows.values()], mistakes


def markdown(rows: Sequence[Row], groups: Sequence[Sequence[Row]]) -> str:
    """A table with a row for each group, mean ± standard deviation (n), and for each run that is not done."""
    titles = [*SCORES, *(TITLES.get(name, name) for name in COSTS), "status"]
    numbers = titles[2:-1]
    lines = [titles, ["---:" if title in numbers else "---" for title in titles]]
    for run, overrides, *cells, status in shown_rows(rows, groups):
        kind, colon, reason = status.partition(": ")
        lines.append([_code(run), _code(overrides), *cells, kind + colon + _code(cut(reason))])
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def curves(rows: Sequence[Row], groups: Sequence[Sequence[Row]], x: str) -> dict[str, list[list[tuple[float, float]]]]:
    """The curves of each group and of each run that is not done, over `x`, by their labels; without empty ones."""
    key, _ = AXES[x]
    lines: dict[str, list[list[tuple[float, float]]]] = {}
    for group, cells in zip(with_unfinished(rows, groups), shown_rows(rows, groups), strict=True):
        points = [[(point[key], point["val/loss"]) for point in row["curve"] if key in point] for row in group]
        if found := [curve for curve in points if curve]:
            lines[_label(group, cells, lines)] = found
    return lines


def not_drawn(rows: Sequence[Row], x: str) -> list[str]:
    """The runs without a validation whose `x` is known, such as those of an earlier release."""
    return [row["job"] for row in rows if not any(AXES[x][0] in point for point in row["curve"])]


def _label(group: Sequence[Row], cells: Sequence[str], others: Mapping[str, object]) -> str:
    """The overrides of a line, or its runs where these do not tell it apart; the number of runs, or the status."""
    name, overrides = cells[:2]
    seeds = f" ({len(group)} runs)" if len(group) > 1 else ""
    status = "" if group[0]["status"] == DONE else f" ({group[0]['status'].partition(':')[0]})"
    label = (overrides or name) + seeds + status
    return f"{name}: {label}" if label in others else label


def _code(text: str) -> str:
    """Text in which nothing is Markdown."""
    text = text.replace("`", "'").replace("|", "\\|")
    return f"`{text}`" if text else ""
