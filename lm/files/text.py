"""Text and JSON: UTF-8 with any line ends and any byte order mark, and one-line errors for other files."""

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lm.errors import UserError
from lm.files.atomic import atomic_write
from lm.files.errors import explain_os_errors

BYTE_ORDER_MARK = "\ufeff"
# Unicode's category Cc, bidirectional controls (with which displayed text can deceive), and lone surrogates,
# which valid text does not have
CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
CONVERT = "convert it, for example by iconv -f {} -t UTF-8 OLD > NEW"
SIGNATURES = {  # magic numbers of other files, the longest first
    **dict.fromkeys((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE), f"UTF-32: {CONVERT.format('UTF-32')}"),
    **dict.fromkeys((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE), f"UTF-16: {CONVERT.format('UTF-16')}"),
    b"\x1f\x8b": "compressed by gzip: unpack it by gunzip",
    b"BZh": "compressed by bzip2: unpack it by bunzip2",
    b"\xfd7zXZ": "compressed by xz: unpack it by unxz",
    b"\x28\xb5\x2f\xfd": "compressed by zstd: unpack it by unzstd",
    b"PK\x03\x04": "a zip archive: unpack it by unzip",
}


def read_lines(path: Path, name: str) -> Iterator[str]:
    r"""The lines of a file, called `name` in messages, without a byte order mark and with `\n` for any line end."""
    with explain_os_errors(f"read {name}"), path.open(encoding="utf-8-sig") as lines:
        yield from checked_lines(lines, name, path)


def checked_lines(lines: Iterable[str], name: str, path: Path | None = None) -> Iterator[str]:
    """The lines of an open text as they come, as long as they are UTF-8 without NUL bytes."""
    try:
        for line in lines:
            if "\0" in line:
                encoding = ("UTF-32" if "\0\0" in line else "UTF-16") + ("BE" if line.startswith("\0") else "LE")
                raise UserError(f"{name} holds NUL bytes, as text in {encoding} does: {CONVERT.format(encoding)}.")
            yield line
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is not UTF-8 text {_what_instead(error, path)}.") from error


def _what_instead(error: UnicodeDecodeError, path: Path | None) -> str:
    if path and path.is_file():  # the error knows only a part of it
        try:
            path.read_bytes().decode()
        except UnicodeDecodeError as first:
            error = first
    for signature, what in SIGNATURES.items():
        if error.object.startswith(signature):
            return f"but {what}"
    return f"(byte {error.start}): {CONVERT.format('ENCODING')}"


def read_text(path: str | Path, key: str) -> str:
    """Read a text file that the user gave as `key`."""
    return "".join(read_lines(Path(path).expanduser(), f"{key}={path}"))


def write_text(text: str, path: str | Path) -> Path:
    """Write a text file atomically and return its path."""
    path = Path(path).expanduser()
    with explain_os_errors(f"write {path}"), atomic_write(path) as file:
        file.write(text.encode("utf-8"))
    return path


def split_lines(text: str) -> list[str]:
    r"""The text split at each `\n`, `\r` and `\r\n`; after an end of line comes another, possibly empty, line."""
    return text.removeprefix(BYTE_ORDER_MARK).replace("\r\n", "\n").replace("\r", "\n").split("\n")


def lines_of_text(text: str) -> list[str]:
    """The lines of a text, as those of a file with this content: an end of line at its end begins no other line."""
    *lines, last = split_lines(text)
    return lines if lines and not last else [*lines, last]


def visible(word: str) -> str:
    """The word with its control characters escaped, which a terminal would interpret."""
    return CONTROL_CHARACTER.sub(lambda found: ascii(found[0])[1:-1], word)


def json_text(values: Any, **options: Any) -> str:
    """JSON, with null for infinities and NaN."""
    finite = json.loads(json.dumps(values), parse_constant=lambda _: None)
    return json.dumps(finite, ensure_ascii=False, **options)
