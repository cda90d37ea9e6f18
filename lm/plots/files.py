"""Figures as files."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from lm.errors import UserError
from lm.files.atomic import atomic_write
from lm.files.errors import explain_os_errors

FORMATS = ("png", "pdf", "svg")


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure in the format that the file's ending names."""
    path = Path(path).expanduser()
    form = check_format(path)
    with explain_os_errors(f"write {path}"), atomic_write(path) as file:
        figure.savefig(file, dpi=120, format=form)
    return path


def check_format(path: str | Path, formats: Sequence[str] = FORMATS) -> str:
    """Return the format that the file's ending names, if it is one of `formats`."""
    form = Path(path).suffix.removeprefix(".").lower()
    if form not in formats:
        raise UserError(f"plot={path} given, but its ending must be one of .{', .'.join(formats)}.")
    return form
