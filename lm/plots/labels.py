"""Words as labels: short enough, and in glyphs that the font has."""

from functools import cache

from matplotlib.font_manager import FontProperties, findfont, get_font

LACKING = "□"


def label(word: str, longest: int = 16, family: str = "DejaVu Sans") -> str:
    """The word, cut to at most `longest` characters; characters that the font lacks become boxes."""
    short = word if len(word) <= longest else word[: longest - 1] + "…"
    return "".join(character if _is_drawable(character, family) else LACKING for character in short)


@cache
def _is_drawable(character: str, family: str) -> bool:
    font = get_font(findfont(FontProperties(family=family)))
    return character.isprintable() and bool(font.get_char_index(ord(character)))
