"""A text as it is read, each word shaded by how much it surprised the model."""

import math
from collections.abc import Iterator, Sequence
from functools import cache, partial
from typing import NamedTuple

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import BoxStyle, FancyBboxPatch

from lm.data import UNK
from lm.language_model import Score
from lm.plots.labels import label

HIGHEST = 12.0  # nats: rarer than one in a hundred thousand
# points, 1/72 inch
WIDTH, MARGIN, HEADER, TITLE = 800.0, 18.0, 46.0, 20.0
WORD, CANDIDATE = FontProperties(size=11), FontProperties(size=7.5)
CAME = FontProperties(size=7.5, weight="bold")
WORD_HEIGHT, CANDIDATE_HEIGHT = 18.0, 10.0
PADDING, GAP, ROW_GAP = 4.0, 4.0, 9.0


class Cell(NamedTuple):
    """A word and what is said of it.

    Attributes:
        word: as it is written.
        known: whether the vocabulary has it.
        surprise: in nats.
        candidates: what was expected, and whether it came.
        width: in points.
    """

    word: str
    known: bool
    surprise: float
    candidates: list[tuple[str, bool]]
    width: float


def shaded_text(scores: Sequence[Score]) -> Figure:
    """Draw scored lines as wrapped text, each word shaded by its surprise, with the likeliest words below it.

    A dashed frame marks a word that the vocabulary lacks: its surprise is that of `<unk>`. The expected word that came
    is bold.
    """
    lines = [list(_rows(_cells(score))) for score in scores]
    most = max((len(cell.candidates) for rows in lines for row in rows for cell in row), default=0)
    row_height = WORD_HEIGHT + CANDIDATE_HEIGHT * most + ROW_GAP
    height = HEADER + MARGIN + sum(TITLE + len(rows) * row_height for rows in lines)
    colours = ScalarMappable(Normalize(0, HIGHEST, clip=True), colormaps["YlOrRd"])
    figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=120)
    axis = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(height, 0))
    axis.axis("off")
    _draw_header(axis, colours)
    top = HEADER
    for number, (score, rows) in enumerate(zip(scores, lines, strict=True), 1):
        title = f"line {number}: " if len(scores) > 1 else ""
        title += f"{len(score.words)} words, {-score.log_prob:,.1f} nats, perplexity {score.perplexity:,.1f}"
        axis.text(MARGIN, top + TITLE / 2, title, fontsize=8, color="dimgray", va="center")
        top += TITLE
        for row in rows:
            left = MARGIN
            for cell in row:
                _draw_cell(axis, cell, left, top, colours)
                left += cell.width + GAP
            top += row_height
    return figure


def _cells(score: Score) -> Iterator[Cell]:
    for word, known, log_prob, likeliest in zip(
        score.words, score.known, score.log_probs, score.likeliest, strict=True
    ):
        text, came = label(word, 24), word if known else UNK
        candidates = [(f"{label(name, 12)} {_percent(value)}", name == came) for name, value in likeliest]
        widths = [_width(text, WORD), *(_width(candidate, CAME) for candidate, _ in candidates)]
        yield Cell(text, known, -log_prob, candidates, max(widths) + 2 * PADDING)


def _percent(log_prob: float) -> str:
    probability = math.exp(log_prob)
    return f"{probability:.0%}" if probability >= 0.005 else "<1%"


def _width(text: str, font: FontProperties) -> float:
    """In points."""
    return _renderer().get_text_width_height_descent(text, font, ismath=False)[0]


@cache
def _renderer() -> RendererAgg:
    return RendererAgg(1, 1, dpi=72)  # a pixel is a point


def _rows(cells: Iterator[Cell]) -> Iterator[list[Cell]]:
    """The cells in rows that fit the width."""
    row: list[Cell] = []
    left = MARGIN
    for cell in cells:
        if row and left + cell.width > WIDTH - MARGIN:
            yield row
            row, left = [], MARGIN
        row.append(cell)
        left += cell.width + GAP
    yield row


def _draw_cell(axis: Axes, cell: Cell, left: float, top: float, colours: ScalarMappable) -> None:
    """The shaded word, and the candidates below it."""
    red, green, blue, _ = colour = colours.cmap(min(cell.surprise / HIGHEST, 1.0))
    axis.add_patch(
        FancyBboxPatch(
            (left, top),
            cell.width,
            WORD_HEIGHT,
            BoxStyle("round", pad=0, rounding_size=3),
            facecolor=colour,
            edgecolor="black",
            linestyle="solid" if cell.known else "dashed",
            linewidth=0 if cell.known else 1,
        )
    )
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue  # as an eye sees it (ITU-R BT.709)
    ink = "white" if luminance < 0.45 else "black"
    centre = left + cell.width / 2
    write = partial(axis.text, ha="center", va="center_baseline", parse_math=False)
    write(centre, top + WORD_HEIGHT / 2, cell.word, fontproperties=WORD, color=ink)
    for i, (text, came) in enumerate(cell.candidates):
        y = top + WORD_HEIGHT + (i + 0.65) * CANDIDATE_HEIGHT
        font, ink = (CAME, "black") if came else (CANDIDATE, "dimgray")
        write(centre, y, text, fontproperties=font, color=ink)


def _draw_header(axis: Axes, colours: ScalarMappable) -> None:
    """The colour bar, and what the marks mean."""
    figure = axis.get_figure(root=True)
    assert figure is not None
    height = axis.get_ylim()[0]
    bar = figure.add_axes((MARGIN / WIDTH, 1 - 24 / height, 220 / WIDTH, 9 / height))
    figure.colorbar(colours, cax=bar, orientation="horizontal", extend="max")
    bar.tick_params(labelsize=7, length=2, pad=2)
    bar.set_title("surprise (nats)", fontsize=8, loc="left", pad=3)
    legend = (
        "below each word: what the model expected, bold where it came\ndashed: not in the vocabulary, read as <unk>"
    )
    axis.text(MARGIN + 250, 24, legend, fontsize=8, color="dimgray", va="center", linespacing=1.5)
