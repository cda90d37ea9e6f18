"""A text with each word shaded by its surprisal, as a figure."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lm.data import UNK
from lm.files.text import write_text
from lm.plots.files import FORMATS, check_format, save_figure
from lm.plots.labels import columns, families, label
from lm.plots.surprisal_page import surprisal_frame, surprisal_html
from lm.score import Score

CANDIDATES = 4  # below each word of a saved figure
MAX_SURPRISAL = 12.0  # nats: a probability below 1e-5
COLOURS = ScalarMappable(Normalize(0, MAX_SURPRISAL, clip=True), colormaps["YlOrRd"])
LEGEND = (
    "below each word: the most probable words, bold: the actual word; dashed: not in the vocabulary, scored as <unk>"
)
# The figure is a grid of characters: in a monospaced font the width of a word is its length.
COLUMNS, FONT, CHARACTER = 110, "DejaVu Sans Mono", 6.6  # CHARACTER: width in points at WORD_SIZE
WORD_SIZE, CANDIDATE_SIZE = 11, 7.5
LINE = 14.0  # points from one row of characters to the next


@dataclass(frozen=True)
class SurprisalText:
    """Scored lines to look at: a notebook shows them, and a file is written in the format that its ending names."""

    scores: Sequence[Score] = field(repr=False)

    def _repr_html_(self) -> str:
        return surprisal_frame(self.scores)

    def save(self, path: str | Path) -> Path:
        """Write a figure, or a page of HTML, and return its path."""
        if check_format(path, [*FORMATS, "html"]) == "html":
            return write_text(surprisal_html(self.scores), path)
        return save_figure(surprisal_text([_shortened(score) for score in self.scores]), path)


def _shortened(score: Score) -> Score:
    """The score with no more candidates than a figure has room for."""
    return replace(score, top_log_probs=[each[:CANDIDATES] for each in score.top_log_probs])


def surprisal_text(scores: Sequence[Score]) -> Figure:
    """Draw scored lines as wrapped text, each word shaded by its surprisal, the most probable words below it."""
    lines = [list(_rows(score)) for score in scores]
    row_height = 2 + max((len(each) for score in scores for each in score.top_log_probs), default=0) * 0.75
    height = 4 + sum(2 + row_height * len(rows) for rows in lines)
    figure = Figure(figsize=(COLUMNS * CHARACTER / 72, height * LINE / 72), dpi=120)
    axis = figure.add_axes((0, 0, 1, 1), xlim=(0, COLUMNS), ylim=(height, 0))
    axis.axis("off")
    bar = figure.add_axes((0.02, 1 - 1.7 / height, 0.3, 0.6 / height))
    figure.colorbar(COLOURS, cax=bar, orientation="horizontal", extend="max").set_label("surprisal (nats)", fontsize=7)
    bar.tick_params(labelsize=7, length=2, pad=2)
    axis.text(COLUMNS - 2, 1.5, LEGEND.replace("; ", "\n"), fontsize=7, color="dimgray", ha="right", va="center")
    top = 4.0
    for score, rows in zip(scores, lines, strict=True):
        axis.text(2, top + 0.7, _title(score), fontsize=8, color="dimgray", va="center")
        top += 1.5
        for row in rows:
            for left, width, i in row:
                _draw_word(axis, score, i, left, top, width)
            top += row_height
        top += 0.5
    return figure


def _title(score: Score) -> str:
    return f"{len(score.words)} words, {-score.log_prob:,.1f} nats, perplexity {score.perplexity:,.1f}"


def _candidates(score: Score, i: int) -> list[tuple[str, str, bool]]:
    """The most probable words at a position, each with its probability, and whether it is the target."""
    target = score.words[i] if score.known[i] else UNK
    return [(word, _percent(log_prob), word == target) for word, log_prob in score.top_log_probs[i]]


def _label(word: str, percent: str) -> str:
    return f"{label(word, 12, FONT)} {percent}"


def _percent(log_prob: float) -> str:
    return f"{math.exp(log_prob):.0%}" if math.exp(log_prob) >= 0.005 else "<1%"


def _colours(surprisal: float) -> tuple[str, str]:
    """The shade of a word, and a legible text colour on it (luminance of ITU-R BT.709)."""
    red, green, blue, _ = shade = COLOURS.cmap(min(surprisal / MAX_SURPRISAL, 1.0))
    return to_hex(shade), "white" if 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.45 else "black"


def _rows(score: Score) -> Iterator[list[tuple[float, float, int]]]:
    """Wrap words into rows: for each its left edge and width, in characters, and its position in the line."""
    row: list[tuple[float, float, int]] = []
    left = 2.0
    for i, word in enumerate(score.words):
        lengths = [
            columns(_label(name, percent)) * CANDIDATE_SIZE / WORD_SIZE for name, percent, _ in _candidates(score, i)
        ]
        room = max(columns(label(word, 24, FONT)), *lengths, 0) + 1.0
        if row and left + room > COLUMNS - 2:
            yield row
            row, left = [], 2.0
        row.append((left, room, i))
        left += room + 0.5
    yield row


def _draw_word(axis: Axes, score: Score, i: int, left: float, top: float, width: float) -> None:
    shade, ink = _colours(-score.log_probs[i])
    edge, style = ("none", "solid") if score.known[i] else ("black", "dashed")
    axis.add_patch(Rectangle((left, top), width, 1.2, facecolor=shade, edgecolor=edge, linestyle=style))
    centre: dict[str, Any] = {
        "x": left + width / 2,
        "ha": "center",
        "va": "center_baseline",
        "family": families(FONT),
        "parse_math": False,
    }
    axis.text(y=top + 0.6, s=label(score.words[i], 24, FONT), fontsize=WORD_SIZE, color=ink, **centre)
    for row, (word, percent, is_target) in enumerate(_candidates(score, i)):
        y, text = top + 1.6 + 0.75 * row, _label(word, percent)
        weight, ink = ("bold", "black") if is_target else ("normal", "dimgray")
        axis.text(y=y, s=text, fontsize=CANDIDATE_SIZE, weight=weight, color=ink, **centre)
