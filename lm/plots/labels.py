"""Words as labels: short enough, and in glyphs that an installed font has."""

import logging
import unicodedata
from functools import cache

from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font

from lm.files.errors import warn

logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # it says that a font has no normal weight
LACKING = "□"
DEFAULT = "DejaVu Sans"  # comes with matplotlib; it has Latin, Greek, Cyrillic, Hebrew, Arabic letters
FALLBACKS = (  # besides DEFAULT, common fonts with the letters of other scripts, Chinese and Japanese above all
    *("Noto Sans CJK JP", "Noto Sans CJK SC", "Source Han Sans", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei"),
    *("Hiragino Sans", "PingFang SC", "Yu Gothic", "Microsoft YaHei", "Arial Unicode MS", "Droid Sans Fallback"),
    *("Noto Sans Devanagari", "Noto Sans Thai", "Noto Sans Symbols", "FreeSans", "FreeSerif", "Unifont"),
)


@cache
def families(first: str = DEFAULT) -> list[str]:
    """A font, followed by the installed ones that matplotlib takes the glyphs from that it lacks."""
    installed = {font.name for font in fontManager.ttflist}
    return list(dict.fromkeys([first, DEFAULT, *(name for name in FALLBACKS if name in installed)]))


def label(word: str, longest: int = 16, family: str = DEFAULT) -> str:
    """The word, cut to at most `longest` characters; those that no font of `families(family)` has become boxes."""
    short = word if len(word) <= longest else word[: longest - 1] + "…"
    return "".join(character if _is_drawable(character, family) else LACKING for character in short)


def columns(text: str) -> int:
    """The width of a text in those of Latin letters of a monospaced font; Chinese ones, for example, take two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


@cache
def _is_drawable(character: str, family: str) -> bool:
    fonts = (get_font(findfont(FontProperties(family=name))) for name in families(family))
    if not character.isprintable() or any(font.get_char_index(ord(character)) for font in fonts):
        return character.isprintable()
    _warn_once()
    return False


@cache  # one warning for all characters
def _warn_once() -> None:
    warn(
        f"No installed font has some letters of this text: they are drawn as {LACKING}. On Debian "
        "`apt install fonts-noto-cjk` installs one for Chinese, Japanese and Korean."
    )
