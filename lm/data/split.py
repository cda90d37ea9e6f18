"""One text as three splits: the first 80 % of its words, the next 10 % and the last 10 %."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate, pairwise
from pathlib import Path

from lm.errors import UserError
from lm.files.text import read_lines, write_text

ENDS = (0.8, 0.9)  # of the training and of the validation split, as fractions of the words
FEWEST_DOCUMENTS = 20  # to cut between documents


def split_text(file: Path, targets: Sequence[Path]) -> None:
    """Write the three splits of a text file, in its order.

    It is cut between documents, which blank lines separate, or between lines where there are few documents.

    Raises:
        UserError: the text has fewer than three lines with words.
    """
    lines = list(read_lines(file, str(file)))
    words = list(accumulate((len(line.split()) for line in lines), initial=0))
    starts = [i for i, line in enumerate(lines) if line.strip()]
    documents = [i for i in starts if i and not lines[i - 1].strip()]
    cuts = documents if len(documents) >= FEWEST_DOCUMENTS else starts[1:]
    if len(cuts) < len(ENDS):
        raise UserError(f"{file} is to be split into three, but has {len(starts)} lines with words: give more text.")
    ends = nearest_cuts([words[i] for i in cuts], [end * words[-1] for end in ENDS])
    parts = pairwise([0, *(cuts[i] for i in ends), len(lines)])
    for target, (start, end) in zip(targets, parts, strict=True):
        write_text("".join(lines[start:end]), target)


def nearest_cuts(positions: Sequence[int], wanted: Sequence[float]) -> list[int]:
    """The indices, all different, of the increasing positions that are nearest to the wanted ones."""
    chosen: list[int] = []
    for i, each in enumerate(wanted):
        first, last = (chosen[-1] + 1 if chosen else 0), len(positions) - (len(wanted) - i)  # leave one for each other
        above = min(max(bisect_left(positions, each), first), last)
        below = max(above - 1, first)
        chosen.append(min(below, above, key=lambda j: abs(positions[j] - each)))
    return chosen
