"""Text from outside: UTF-8 with any line ends and any byte order mark; one line on whatever else it may be."""

import codecs
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lm.errors import UserError

BYTE_ORDER_MARK = "\ufeff"
# Unicode's category Cc, what changes the direction of text (a terminal that shows them may be made to lie), and
# halves of surrogate pairs, which no text has
CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
SIGNATURES = {  # how other files begin, the longest first
    codecs.BOM_UTF32_LE: "UTF-32: convert it, for example by iconv -f UTF-32 -t UTF-8 OLD > NEW",
    codecs.BOM_UTF32_BE: "UTF-32: convert it, for example by iconv -f UTF-32 -t UTF-8 OLD > NEW",
    codecs.BOM_UTF16_LE: "UTF-16: convert it, for example by iconv -f UTF-16 -t UTF-8 OLD > NEW",
    codecs.BOM_UTF16_BE: "UTF-16: convert it, for example by iconv -f UTF-16 -t UTF-8 OLD > NEW",
    b"\x1f\x8b": "compressed by gzip: unpack it by gunzip",
    b"BZh": "compressed by bzip2: unpack it by bunzip2",
    b"\xfd7zXZ": "compressed by xz: unpack it by unxz",
    b"\x28\xb5\x2f\xfd": "compressed by zstd: unpack it by unzstd",
    b"PK\x03\x04": "a zip archive: unpack it by unzip",
}


@contextmanager
def open_text(path: Path, name: str) -> Iterator[Iterator[str]]:
    """Open a text file for reading, line by line, under the `name` that messages give it.

    A byte order mark is left out, and all line ends are `\n`.

    Raises:
        UserError: in this block, where the file turns out to hold NUL bytes, or not to be UTF-8.
    """
    with path.open(encoding="utf-8-sig") as text:
        try:
            yield _without_nul(text, name)
        except UnicodeDecodeError as error:
            raise UserError(_not_utf8(name, error, path)) from error


def checked(lines: Iterable[str], name: str) -> Iterator[str]:
    """The lines of a stream that is called `name`, as they come.

    Raises:
        UserError: if it holds NUL bytes, or is not UTF-8.
    """
    try:
        yield from _without_nul(lines, name)
    except UnicodeDecodeError as error:
        raise UserError(_not_utf8(name, error)) from error


def split_lines(text: str) -> list[str]:
    """The lines of a text as a file with it has them: only `\\n`, `\\r` and `\\r\\n` end a line."""
    return text.removeprefix(BYTE_ORDER_MARK).replace("\r\n", "\n").replace("\r", "\n").split("\n")


def visible(word: str) -> str:
    """The word with its control characters written out, which a terminal would obey."""
    return CONTROL_CHARACTER.sub(lambda found: ascii(found[0])[1:-1], word)


def _without_nul(lines: Iterable[str], name: str) -> Iterator[str]:
    for line in lines:
        if "\0" in line:
            encoding = ("UTF-32" if "\0\0" in line else "UTF-16") + ("BE" if line.startswith("\0") else "LE")
            raise UserError(
                f"{name} holds NUL bytes, as text in {encoding} does: convert it to UTF-8, for example by "
                f"iconv -f {encoding} -t UTF-8 OLD > NEW."
            )
        yield line


def _not_utf8(name: str, error: UnicodeDecodeError, path: Path | None = None) -> str:
    """What is wrong; only a file that can be read again tells the place in it."""
    data, place = error.object, error.start
    if path and path.is_file():
        data = path.read_bytes()
        try:
            data.decode()
        except UnicodeDecodeError as first:
            place = first.start
    for signature, what in SIGNATURES.items():
        if data.startswith(signature):
            return f"{name} is not UTF-8 text but {what}."
    return f"{name} is not UTF-8 text (byte {place}): convert it, for example by iconv -f ENCODING -t UTF-8 OLD > NEW."
