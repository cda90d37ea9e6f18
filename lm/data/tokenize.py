"""Tokenisation of plain text in the style of Wikitext: words and punctuation separated by spaces."""

import re
from collections.abc import Mapping
from functools import cache, partial
from typing import TYPE_CHECKING

from lm.errors import UserError

if TYPE_CHECKING:
    from sacremoses import MosesTokenizer

# left as they are: <unk> and <eos>, and what a tokenised text has already: @-@ , and 's after a space
PROTECTED = re.compile(r"(<unk>|<eos>|@[-,.]@|(?<=\s)'(?:s|t|re|ve|d|ll|m)(?=\s))")
IN_NUMBER = re.compile(r"(?<=\d)([,.])(?=\d)")


def tokenized(line: str) -> str:
    """A line tokenised by the Moses tokenizer (Koehn et al. 2007), with Wikitext's separators in words and numbers.

    "Well-known (since 1,234.5 B.C.)" becomes "Well @-@ known ( since 1 @,@ 234 @.@ 5 B.C. )". What is tokenised already
    stays as it is.

    Raises:
        UserError: the package sacremoses is missing.
    """
    moses = partial(_moses().tokenize, aggressive_dash_splits=True, escape=False, return_str=True)
    parts = [part if i % 2 else moses(part) for i, part in enumerate(PROTECTED.split(line))]  # every other is protected
    return IN_NUMBER.sub(r" @\1@ ", " ".join(filter(None, parts)))


def was_tokenized(data: object) -> bool:
    """Whether a run tokenised its text, by the section `data` of its config, which may be untrusted."""
    return isinstance(data, Mapping) and data.get("tokenize") is True


@cache
def _moses() -> "MosesTokenizer":
    try:
        from sacremoses import MosesTokenizer
    except ImportError:
        raise UserError("tokenize=true needs one more package: pip install -e '.[tokenize]'") from None
    return MosesTokenizer(lang="en")
