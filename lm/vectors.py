"""Word vectors as text: those of word2vec and GloVe into an embedding, trained ones out."""

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from lm.data.vocabulary import Vocabulary
from lm.errors import UserError
from lm.files import refusals


@torch.no_grad()
def load_vectors(path: str | Path, vocabulary: Vocabulary, weight: Tensor) -> int:
    """Put the vectors of a file into the rows of an embedding `[V, E]`; rows whose word the file lacks stay.

    Each line is a word and its numbers, separated by spaces, as GloVe writes them; word2vec's text format has a line
    before them with the numbers of words and of dimensions. Words are compared as they are written.

    Returns:
        How many words were found.

    Raises:
        UserError: if the file cannot be read, is of neither format, or has vectors of another size than E.
    """
    found: set[str] = set()
    for word, values, place in _lines(path, weight.size(1)):
        if word in vocabulary and word not in found:
            weight[vocabulary.number(word)] = torch.tensor(_numbers(values, place))
            found.add(word)
    return len(found)


def vectors_text(vocabulary: Vocabulary, vectors: Tensor) -> str:
    """Vectors `[V, E]` in word2vec's text format, with digits enough for the same fp32 numbers."""
    lines = [f"{len(vectors)} {vectors.size(1)}"]
    for word, vector in zip(vocabulary.words, vectors.tolist(), strict=True):
        lines.append(" ".join([word, *(f"{value:.9g}" for value in vector)]))
    return "\n".join(lines) + "\n"


def _lines(path: str | Path, size: int) -> Iterator[tuple[str, list[str], str]]:
    """Each word with its numbers, as text, and where they stand."""
    with refusals(f"read model.embedding.pretrained={path}"), Path(path).expanduser().open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            place = f"line {number} of model.embedding.pretrained={path}"
            word, *values = line.rstrip().split(" ")
            if not line.strip() or (number == 1 and len(values) == 1 and size > 1):
                continue  # the latter is word2vec's
            if len(values) > size and number > 2:
                continue  # the word has a space in it, as a few of GloVe's have
            if len(values) != size:
                raise UserError(
                    f"{place} has {len(values)} numbers after its word, but model.embedding.embedding_size={size}: "
                    "make them equal."
                )
            yield word, values, place


def _numbers(values: list[str], place: str) -> list[float]:
    try:
        numbers = [float(value) for value in values]
        if all(map(math.isfinite, numbers)):
            return numbers
    except ValueError:
        pass
    raise UserError(f"{place} has something else than finite numbers after its word.")
