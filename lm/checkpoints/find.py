"""The values of `ckpt=`: a file, an exported folder, a run folder, or `last` or `best` of the newest run."""

import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from lm.errors import UserError

RUNS = Path("runs/train")  # the folder of scripts/train.py's runs; see hydra.run.dir in conf/train.yaml
NEWEST = {"last": "last.ckpt", "best": "best.ckpt"}
EXPORTED = ("config.json", "model.safetensors")  # any of them marks an exported folder
SHOWN = 5  # paths in a message


def find_checkpoint(given: str | Path, name: str = "best.ckpt", runs: Path = RUNS, key: str = "ckpt") -> Path:
    """The checkpoint file, or exported folder, that a user means.

    Args:
        given: a path, or "last" or "best" for that checkpoint of the newest run.
        name: of the checkpoint to take from a run folder.
        runs: the folder of the runs.
        key: what the path was given for, to name in messages.
    """
    if str(given) in NEWEST:
        return _newest(str(given), runs, key)
    path = Path(given).expanduser()
    if path.is_file() or any((path / name).is_file() for name in EXPORTED):
        return path
    if not path.is_dir():
        hint = _listed(runs.glob(f"*/checkpoints/{name}"))
        raise UserError(f"No checkpoint at {key}={path}: give a .ckpt file, a run folder, last or best{hint}.")
    for candidate in (path / name, path / "checkpoints" / name):
        if candidate.is_file():
            return candidate
    hint = _listed(each for each in path.glob("**/*.ckpt") if not each.name.startswith("."))
    raise UserError(f"{key}={path} given, but there is no checkpoints/{name} in this folder: give a .ckpt file{hint}.")


def announced_checkpoint(given: str | Path) -> Path:
    """`find_checkpoint`, which says on stderr what is about to be loaded."""
    path = find_checkpoint(given)
    print(f"loading {path}", file=sys.stderr, flush=True)
    return path


def announced_checkpoints(given: str | Path | Sequence[str | Path]) -> list[Path]:
    """Those of one path, or of several: a list, or `[A,B]` as it is typed."""
    return [announced_checkpoint(each) for each in listed_paths("ckpt", given, "a checkpoint")]


def listed_paths(key: str, given: str | Path | Sequence[str | Path], what: str = "a folder") -> list[str | Path]:
    """The values of a key that takes one path, or several: a list, or `[A,B]` as it is typed."""
    several: list[str | Path] = [given] if isinstance(given, str | Path) else list(given)
    if isinstance(given, str | Path) and re.fullmatch(r"\[.*\]", str(given)) and not os.path.exists(given):  # noqa: PTH110  # pathlib's fails where a list is too long for a path
        several = [each.strip() for each in str(given)[1:-1].split(",")]
    if "" in several or not several:
        raise UserError(f"{key}={given} given, but there must be {what} in each place: {key}=[A,B].")
    return several


def run_names(paths: Sequence[Path]) -> list[str]:
    """A different name for each checkpoint: that of its run, folder or file, with numbers where two are the same."""
    runs = [path.resolve() for path in paths]
    names = [path.parents[1].name if path.parent.name == "checkpoints" else path.stem for path in runs]
    return names if len({*names}) == len(names) else [f"{name}-{i}" for i, name in enumerate(names, start=1)]


def default_output_path(path: str | Path, ending: str) -> Path:
    """The path of a result next to a checkpoint: `best.ckpt` and `.json` give `best.json`; a folder keeps its name."""
    path = Path(os.path.normpath(Path(path).expanduser().absolute()))
    return path.with_name((path.name if path.is_dir() else path.stem) + ending)


def _newest(given: str, runs: Path, key: str) -> Path:
    found = newest_first(runs.glob(f"*/checkpoints/{NEWEST[given]}"))
    if not found:
        raise UserError(
            f"{key}={given} given, but no run in {runs} has a {NEWEST[given]}: give the path of a .ckpt file."
        )
    return found[0]


def _listed(paths: Iterable[Path]) -> str:
    """Some of the paths, newest first, to end a sentence with."""
    found = newest_first(paths)
    if not found:
        return ""
    more = ", …" if len(found) > SHOWN else ""
    return f"; there is {', '.join(map(str, found[:SHOWN]))}{more}"


def newest_first(paths: Iterable[Path]) -> list[Path]:
    """The files among the paths, some of which may be links to nothing."""
    return sorted((path for path in paths if path.is_file()), key=lambda path: path.stat().st_mtime, reverse=True)
