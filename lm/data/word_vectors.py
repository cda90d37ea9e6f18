"""Word vector files: load word2vec and GloVe vectors into an embedding, and export trained ones."""

import gzip
import io
import math
import re
import zlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lm.data.vocabulary import Vocabulary
from lm.errors import UserError
from lm.files.errors import explain_os_errors
from lm.files.text import checked_lines

Stream = io.BufferedReader | gzip.GzipFile
Vectors = Iterator[tuple[str, Sequence[str] | Sequence[float], str]]  # word, values, and where they are


@torch.no_grad()
def load_vectors(path: str | Path, vocabulary: Vocabulary, weight: Tensor, words: Collection[str] | None = None) -> int:
    """Load the vectors of a file into an embedding `[V, E]` and return how many words were found; other rows stay.

    Args:
        path: of the file.
        vocabulary: the words of the rows.
        weight: the embedding.
        words: to load the vectors of; None for all.

    The file may be compressed by gzip. In the text format of GloVe each line is a word and its values, separated by
    spaces or tabs; both formats of word2vec start with a line that has the numbers of words and of dimensions. Words
    are case-sensitive; of duplicate words the first vector is used.
    """
    name = str(path)
    wanted = frozenset(vocabulary.words if words is None else words)
    found: set[str] = set()
    with explain_os_errors(f"read {name}"), Path(path).expanduser().open("rb") as file:
        is_compressed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        stream = gzip.GzipFile(fileobj=file) if is_compressed else file
        try:
            for word, values, place in _vectors(stream, weight.size(1), name):
                if word in wanted and word not in found:
                    weight[vocabulary.id_of(word)] = torch.tensor(_finite(values, place))
                    found.add(word)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise UserError(f"{name} is damaged or cut short ({error}): download it again.") from error
    return len(found)


def vectors_text(vocabulary: Vocabulary, vectors: Tensor) -> str:
    """Vectors `[V, E]` in word2vec's text format, with enough digits to restore the fp32 values exactly."""
    lines = [f"{len(vectors)} {vectors.size(1)}"]
    for word, vector in zip(vocabulary.words, vectors.tolist(), strict=True):
        lines.append(" ".join([word, *(f"{value:.9g}" for value in vector)]))
    return "\n".join(lines) + "\n"


def _vectors(stream: Stream, size: int, name: str) -> Vectors:
    header = re.fullmatch(rb"(?:\xef\xbb\xbf)?(\d+)[ \t](\d+)\s*", stream.readline(1000))
    beginning = stream.readline().split()
    stream.seek(0)
    if header is None:
        yield from _text(stream, False, size, name)
        return
    stated, stated_size = map(int, header.groups())
    if stated_size != size:
        raise UserError(f"{name} has vectors of {stated_size} values, but embedding_size={size}: make them equal.")
    is_binary = beginning and not _is_number(beginning[-1])
    vectors = _binary(stream, stated, size, name) if is_binary else _text(stream, True, size, name)
    count = 0
    for each in vectors:
        yield each
        count += 1
    if count < stated:
        raise UserError(f"{name} is cut short: it has {count:,} of the {stated:,} vectors that its first line names.")


def _text(stream: Stream, has_header: bool, size: int, name: str) -> Vectors:
    is_size_certain = has_header  # then a longer line has a word with spaces in it
    for number, line in enumerate(checked_lines(io.TextIOWrapper(stream, encoding="utf-8-sig"), name), 1):
        if not line.strip() or (has_header and number == 1):
            continue
        fields = re.split(r"[ \t]+", line.rstrip())
        place = f"line {number} of {name}"
        values = len(fields) - 1
        if not is_size_certain and values > size and not all(map(_is_number, fields[1:-size])):
            values = size
        if values < size or (values > size and not is_size_certain):
            raise UserError(f"{place} has {values} values after its word, but embedding_size={size}: make them equal.")
        is_size_certain = True
        yield " ".join(fields[:-size]), fields[-size:], place


def _binary(stream: Stream, count: int, size: int, name: str) -> Vectors:
    stream.readline()
    for number in range(1, count + 1):
        word = bytearray()
        while (letter := stream.read(1)) not in (b" ", b""):
            word += letter
        data = stream.read(4 * size)
        if len(data) < 4 * size:
            return
        values = np.frombuffer(data, "<f4").tolist()
        yield word.removeprefix(b"\n").decode(errors="replace"), values, f"vector {number} of {name}"


def _is_number(field: str | bytes | float) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _finite(values: Sequence[str] | Sequence[float], place: str) -> list[float]:
    numbers = [float(value) if _is_number(value) else math.nan for value in values]
    if not all(map(math.isfinite, numbers)):
        raise UserError(f"{place} has something else than finite numbers after its word.")
    return numbers
