"""A text shaded by surprisal as one self-contained page of HTML."""

from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from importlib.resources import files
from importlib.resources.abc import Traversable
from string import Template
from typing import Any

from lm.files.text import json_text, visible
from lm.score import Score

PAGE = files("lm.plots") / "page"
HEIGHT = 480  # pixels, in a notebook


def surprisal_html(scores: Sequence[Score]) -> str:
    """The page of scored lines: a word's rank, probability and the most probable ones are shown where one points."""
    return filled(PAGE / "text.html", scores=script_json([plain_score(score) for score in scores]))


def surprisal_frame(scores: Sequence[Score]) -> str:
    """The same as a frame in another page, such as a notebook, neither of which changes the other's looks."""
    return f'<iframe srcdoc="{escape(surprisal_html(scores))}" width="100%" height="{HEIGHT}" frameborder="0"></iframe>'


def filled(template: Traversable, **values: str) -> str:
    """A page that has the shared style and script, and `values`, where its template names them."""
    style, script = ((PAGE / f"surprisal.{ending}").read_text("utf-8") for ending in ("css", "js"))
    return Template(template.read_text("utf-8")).substitute(style=style, script=script, **values)


def plain_score(score: Score) -> dict[str, Any]:
    """A score as plain data, its control characters escaped."""
    words = [visible(word) for word in score.words]
    top = [[(visible(word), value) for word, value in each] for each in score.top_log_probs]
    return asdict(score) | {"words": words, "top_log_probs": top}


def script_json(values: Any) -> str:
    """JSON that may stand in a script element, which `</script>` would end and `<!--` continue."""
    return json_text(values).replace("<", "\\u003c")
