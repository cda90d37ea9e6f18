"""Figures as files."""

from pathlib import Path

from matplotlib.figure import Figure

from lm.errors import UserError
from lm.files.atomic import atomic_write
from lm.files.errors import explain_os_errors

FORMATS = ("png", "pdf", "svg")


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure in the format that the file's ending names.

    Raises:
        UserError: if the format is unknown or the file cannot be written.
    """
    path = Path(path).expanduser()
    form = check_format(path)
    with explain_os_errors(f"write {path}"), atomic_write(path) as file:
        figure.savefig(file, dpi=120, format=form)
    return path


def check_format(path: str | Path) -> str:
    """Return the format that the file's ending names.

    Raises:
        UserError: if it is none of FORMATS.
    """
    form = Path(path).suffix.removeprefix(".").lower()
    if form not in FORMATS:
        raise UserError(f"plot={path} given, but its ending must be one of .{', .'.join(FORMATS)}.")
    return form
