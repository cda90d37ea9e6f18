"""A corpus as token ids: encoded in one pass, cached on disk and memory-mapped."""

import hashlib
import zlib
from collections import defaultdict
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lm.data.sources import Splits, digest
from lm.data.vocabulary import EOS, UNK, Vocabulary, is_word, words_of_line
from lm.errors import UserError
from lm.files.atomic import atomic_write
from lm.files.errors import explain_os_errors, warn
from lm.files.text import read_lines

FORMAT = 4  # version of the cache format; increment it when encoding changes


class Corpus(NamedTuple):
    """A vocabulary and the three splits as ids `[N]` (int32), with an `<eos>` after every line."""

    vocabulary: Vocabulary
    train: Tensor
    valid: Tensor
    test: Tensor

    def checksums(self) -> dict[str, int]:
        """The CRC-32 of the vocabulary and of each split, which identify the text wherever its files are."""
        words = "\n".join(self.vocabulary.words).encode()
        return {"vocabulary": zlib.crc32(words)} | {
            split: zlib.crc32(getattr(self, split).numpy().data) for split in Splits._fields
        }

    def unk_rate(self, split: str) -> float:
        """The fraction of `<unk>` among the words of a split, `<eos>` excluded."""
        ids, vocabulary = getattr(self, split), self.vocabulary
        words = int((ids != vocabulary.eos_id).sum())
        return int((ids == vocabulary.unk_id).sum()) / max(words, 1)


def load_corpus(
    splits: Splits,
    cache_dir: Path,
    min_count: int = 1,
    max_size: int | None = None,
    vocabulary: Vocabulary | None = None,
    tokenize: bool = False,
) -> Corpus:
    """The encoded corpus, from `cache_dir` if these files have been encoded with these settings before.

    Without a `vocabulary`, it is built from the training split: the `max_size` most frequent words (`<unk>` and `<eos>`
    included) that occur at least `min_count` times; all others become `<unk>`. `tokenize` is that of `words_of_line`.
    """
    settings = [
        FORMAT,
        *(["tokenize"] if tokenize else []),
        min_count,
        max_size,
        vocabulary and vocabulary.words,
        *map(digest, splits),
    ]
    path = cache_dir / f"{hashlib.sha256(repr(settings).encode()).hexdigest()[:32]}.pt"
    if corpus := _read(path):
        return corpus
    corpus = encode(splits, min_count, max_size, vocabulary, tokenize)
    _write(corpus, path)
    return corpus


def encode(
    splits: Splits, min_count: int, max_size: int | None, vocabulary: Vocabulary | None, tokenize: bool = False
) -> Corpus:
    """Encode the text files; see `load_corpus`."""
    if vocabulary is None:
        vocabulary, train = _encode_training_split(splits.train, min_count, max_size, tokenize)
    else:
        train = encode_file(splits.train, vocabulary.id_of, tokenize)
    valid, test = (encode_file(file, vocabulary.id_of, tokenize) for file in (splits.valid, splits.test))
    return Corpus(vocabulary, *map(torch.from_numpy, (train, valid, test)))


def encode_file(file: Path, id_of: Callable[[str], int], tokenize: bool = False) -> np.ndarray:
    """The ids `[N]` (int32) of all words of a text file, with that of `<eos>` after every line that lacks it."""
    lines = read_lines(file, str(file))
    words = chain.from_iterable(words_of_line(line, tokenize=tokenize) for line in lines)
    ids = np.fromiter(map(id_of, words), np.int32)
    if not (ids != id_of(EOS)).any():
        raise UserError(f"{file} holds no words: put the text there.")
    return ids


def choose_words(counts: dict[str, int], min_count: int, max_size: int | None) -> list[str]:
    """The words to keep, most frequent first; ties keep the order of `counts`. `<unk>` and `<eos>` are always kept.

    The count of `<unk>` includes all words that it replaces, also those with control characters, so its rank is right.
    """
    candidates = (word for word in counts if word not in (UNK, EOS) and is_word(word))
    ranked = sorted(candidates, key=counts.__getitem__, reverse=True)
    room = len(ranked) if max_size is None else max_size - 2
    kept = [word for word in ranked[:room] if counts[word] >= min_count]
    final = {EOS: counts.get(EOS, 0), UNK: 0} | {word: counts[word] for word in kept}
    final[UNK] = sum(counts.values()) - sum(final.values())
    return sorted(final, key=final.__getitem__, reverse=True)


def _encode_training_split(
    file: Path, min_count: int, max_size: int | None, tokenize: bool
) -> tuple[Vocabulary, np.ndarray]:
    """Number words by first appearance in one pass over the text, then map these ids to ranks by frequency."""
    first_seen: defaultdict[str, int] = defaultdict()
    first_seen.default_factory = first_seen.__len__
    ids = encode_file(file, first_seen.__getitem__, tokenize)
    counts = dict(zip(first_seen, np.bincount(ids).tolist(), strict=True))
    vocabulary = Vocabulary(choose_words(counts, min_count, max_size))
    rank = np.fromiter(map(vocabulary.id_of, first_seen), np.int32)
    return vocabulary, rank[ids]


def _read(path: Path) -> Corpus | None:
    """The cached corpus, or None where there is none or it is damaged."""
    try:
        stored = torch.load(path, mmap=True, weights_only=True)
        vocabulary = Vocabulary(stored["vocabulary"].split("\n"))
        corpus = Corpus(vocabulary, *(stored[split] for split in Splits._fields))
        return corpus if stored["checksums"] == corpus.checksums() else None
    except Exception:  # damaged files raise many errors; the remedy is always to encode again
        return None


def _write(corpus: Corpus, path: Path) -> None:
    try:
        with explain_os_errors(f"keep the encoded corpus in cache_dir={path.parent}"), atomic_write(path) as file:
            texts = {"vocabulary": "\n".join(corpus.vocabulary.words), "checksums": corpus.checksums()}
            torch.save(texts | dict(zip(Splits._fields, corpus[1:], strict=True)), file)
    except UserError as error:
        warn(f"{error} It will be encoded again by the next run.")
