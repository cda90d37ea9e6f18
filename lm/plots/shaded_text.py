"""A text as one reads it, each word shaded by its surprise, with what the model expected below it."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lm.language_model import Score
from lm.plots.files import label

WIDTH = 10.0  # inches of text
HIGHEST = 14.0  # nats; a word in a million
FONT, SMALL = 9.0, 6.5  # points, of the text and of what was expected
MONOSPACE = 0.602 / 72  # inches that a character is wide, for each point of its size


class Cell(NamedTuple):
    """A word and what is said of it."""

    word: str
    known: bool
    surprise: float
    expected: list[str]

    @property
    def width(self) -> float:
        """In inches, with the gap after it."""
        words = len(self.word) * FONT, *(len(each) * SMALL for each in self.expected)
        return (max(words) + 1.5 * FONT) * MONOSPACE


def shaded_text(scores: Sequence[Score]) -> Figure:
    """Draw scored lines; where they name the likeliest words, these stand below each word with their probability.

    The frame of a dashed line marks a word that the vocabulary lacks: its surprise is that of `<unk>`.
    """
    rows = [row for score in scores for row in wrapped(cells(score))]
    choices = max((len(cell.expected) for row in rows for cell in row), default=0)
    row_height = (2.2 * FONT + 1.35 * SMALL * choices) / 72
    height = row_height * len(rows) + 0.2
    figure = Figure(figsize=(WIDTH + 1.1, max(height, 1.6)))
    axes = figure.add_axes((0.01, 0, 1, 1), xlim=(0, WIDTH + 1.1), ylim=(max(height, 1.6), 0))
    axes.set_axis_off()
    shade = ScalarMappable(Normalize(0, HIGHEST), colormaps["YlOrRd"])
    for number, row in enumerate(rows):
        left = 0.0
        for cell in row:
            draw(cell, axes, left, 0.1 + number * row_height, shade)
            left += cell.width
    bar = figure.add_axes((1 - 0.75 / (WIDTH + 1.1), 0.12, 0.012, 0.76))
    figure.colorbar(shade, cax=bar, label="surprise (nats)")
    return figure


def cells(score: Score) -> list[Cell]:
    """The words of a line."""
    expected = [[f"{label(word, 12)} {math.exp(value):.0%}" for word, value in each] for each in score.likeliest]
    words = [label(word, 24) for word in score.words]
    return list(map(Cell, words, score.known, (-value for value in score.log_probs), expected))


def wrapped(line: Sequence[Cell]) -> Iterator[list[Cell]]:
    """The rows of a line that has to be broken."""
    row: list[Cell] = []
    width = 0.0
    for cell in line:
        if row and width + cell.width > WIDTH:
            yield row
            row, width = [], 0.0
        row.append(cell)
        width += cell.width
    if row:
        yield row


def draw(cell: Cell, axes: Axes, left: float, top: float, shade: ScalarMappable) -> None:
    """Draw a word at a place."""
    height, width = 1.5 * FONT / 72, (len(cell.word) + 0.6) * FONT * MONOSPACE
    frame: dict[str, Any] = {} if cell.known else {"edgecolor": "black", "linestyle": "--", "linewidth": 0.8}
    axes.add_patch(Rectangle((left, top), width, height, facecolor=shade.cmap(cell.surprise / HIGHEST), **frame))
    middle = top + height / 2
    colour = "white" if cell.surprise > 0.7 * HIGHEST else "black"
    text: dict[str, Any] = {"family": "monospace", "verticalalignment": "center"}
    axes.text(left + 0.3 * FONT * MONOSPACE, middle, cell.word, fontsize=FONT, color=colour, **text)
    for number, each in enumerate(cell.expected):
        below = top + height + (0.8 + 1.35 * number) * SMALL / 72
        axes.text(left + 0.3 * FONT * MONOSPACE, below, each, fontsize=SMALL, color="0.35", **text)
