"""Word vectors in files: those of word2vec and GloVe into an embedding, trained ones out."""

import gzip
import io
import math
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lm.data.vocabulary import Vocabulary
from lm.errors import UserError
from lm.files import refusals
from lm.files.text import checked

SIZE_KEY = "model.embedding.embedding_size"


@torch.no_grad()
def load_vectors(path: str | Path, vocabulary: Vocabulary, weight: Tensor) -> int:
    """Put the vectors of a file into the rows of an embedding `[V, E]`; rows whose word the file lacks stay.

    The file may be compressed by gzip. In the text format of GloVe each line is a word and its numbers, separated by
    spaces or tabs; word2vec's has a line before them with the numbers of words and of dimensions, and so has its binary
    format. Words are compared as they are written; of a word that comes twice the first vector counts.

    Returns:
        How many words were found.

    Raises:
        UserError: if the file cannot be read, is cut short or of another format, or has vectors of another size than E.
    """
    name, size = f"model.embedding.pretrained={path}", weight.size(1)
    found: set[str] = set()
    with refusals(f"read {name}"), Path(path).expanduser().open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        stream = gzip.GzipFile(fileobj=file) if compressed else file
        try:
            for word, numbers, place in _vectors(stream, size, name):
                if word in vocabulary and word not in found:
                    weight[vocabulary.number(word)] = torch.tensor(_finite(numbers, place))
                    found.add(word)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise UserError(f"{name} is damaged or cut short ({error}): download it again.") from error
    return len(found)


def vectors_text(vocabulary: Vocabulary, vectors: Tensor) -> str:
    """Vectors `[V, E]` in word2vec's text format, with digits enough for the same fp32 numbers."""
    lines = [f"{len(vectors)} {vectors.size(1)}"]
    for word, vector in zip(vocabulary.words, vectors.tolist(), strict=True):
        lines.append(" ".join([word, *(f"{value:.9g}" for value in vector)]))
    return "\n".join(lines) + "\n"


Vectors = Iterator[tuple[str, Sequence[str] | Sequence[float], str]]


def _vectors(stream: io.BufferedReader | gzip.GzipFile, size: int, name: str) -> Vectors:
    """Each word with its numbers, and where they stand."""
    header = re.fullmatch(rb"(?:\xef\xbb\xbf)?(\d+)[ \t](\d+)\s*", stream.readline(1000))
    beginning = stream.readline().split()
    stream.seek(0)
    if header and (stated := int(header[2])) != size:
        raise UserError(f"{name} has vectors of {stated} numbers, but {SIZE_KEY}={size}: make them equal.")
    count = int(header[1]) if header else 0
    binary = header and beginning and not _is_number(beginning[-1])
    read = 0
    for each in _binary(stream, count, size, name) if binary else _text(stream, bool(header), size, name):
        read += 1
        yield each
    if read < count:
        raise UserError(f"{name} is cut short: it has {read:,} of the {count:,} vectors that its first line names.")


def _text(stream: io.BufferedReader | gzip.GzipFile, header: bool, size: int, name: str) -> Vectors:
    lines = checked(io.TextIOWrapper(stream, encoding="utf-8-sig"), name)
    established = header  # that the vectors are of this size: a longer line is one whose word has spaces in it
    for number, line in enumerate(lines, 1):
        fields = re.split(r"[ \t]+", line.rstrip())
        if not line.strip() or (header and number == 1):
            continue
        place = f"line {number} of {name}"
        numbers = len(fields) - 1
        if not established and numbers > size and not all(map(_is_number, fields[1:-size])):
            numbers = size
        if numbers < size or (numbers > size and not established):
            raise UserError(f"{place} has {numbers} numbers after its word, but {SIZE_KEY}={size}: make them equal.")
        established = True
        yield " ".join(fields[:-size]), fields[-size:], place


def _binary(stream: io.BufferedReader | gzip.GzipFile, count: int, size: int, name: str) -> Vectors:
    stream.readline()
    for number in range(1, count + 1):
        word = bytearray()
        while (letter := stream.read(1)) not in (b" ", b""):
            word += letter
        data = stream.read(4 * size)
        if len(data) < 4 * size:
            return
        numbers = np.frombuffer(data, "<f4").tolist()
        yield word.removeprefix(b"\n").decode(errors="replace"), numbers, f"vector {number} of {name}"


def _is_number(field: Any) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _finite(values: Sequence[str] | Sequence[float], place: str) -> list[float]:
    if all(map(_is_number, values)) and all(math.isfinite(float(value)) for value in values):
        return [float(value) for value in values]
    raise UserError(f"{place} has something else than finite numbers after its word.")
