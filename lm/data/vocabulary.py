"""Words and their ids."""

import re
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from lm.data.tokenize import tokenized
from lm.files.text import BYTE_ORDER_MARK, CONTROL_CHARACTER, visible

UNK = "<unk>"  # replaces every out-of-vocabulary word
EOS = "<eos>"  # ends every line


def is_word(text: str) -> bool:
    """Whether a vocabulary may contain `text`: non-empty, without white space or control characters."""
    return text.split() == [text] and not CONTROL_CHARACTER.search(text)


def words_of_line(line: str, eos: bool = True, tokenize: bool = False) -> list[str]:
    """The words of a line, without a byte order mark, followed by `<eos>` unless the line ends with it.

    They are separated by white space or, with `tokenize`, by `lm.data.tokenize.tokenized`.
    """
    line = line.removeprefix(BYTE_ORDER_MARK)
    words = (tokenized(line) if tokenize else line).split()
    return [*words, EOS] if eos and words[-1:] != [EOS] else words


def describe_unknown(words: Sequence[str], longest: int = 20) -> str:
    """A message that a model will see these words as `<unk>`; it quotes at most `longest` of them."""
    distinct = list(dict.fromkeys(words))
    shown = " ".join(f'"{visible(word)}"' for word in distinct[:longest])
    more = f" and {len(distinct) - longest:,} others" if len(distinct) > longest else ""
    attached = any(re.search(r"\w", word) and re.search(r"[^\w]$|^[^\w]|-", word) for word in distinct)
    hint = " (tokenize=true separates punctuation)" if attached else ""
    return f"not in the vocabulary, read as <unk>: {shown}{more}{hint}"


class Vocabulary:
    """The words a model knows, the most frequent first; a word's id is its index, from 0 to V - 1.

    Args:
        words: without duplicates, `<unk>` and `<eos>` included.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.words = list(words)
        self.index = {word: i for i, word in enumerate(self.words)}
        if len(self.index) != len(self.words):
            raise ValueError("a word stands twice in the vocabulary")
        self.unk_id = self.index[UNK]
        self.eos_id = self.index[EOS]

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: str) -> bool:
        return word in self.index

    def id_of(self, word: str) -> int:
        """The id of `word`, or that of `<unk>`."""
        return self.index.get(word, self.unk_id)

    def encode(self, words: Iterable[str]) -> Tensor:
        """The ids `[T]` of `words`."""
        return torch.tensor([self.id_of(word) for word in words], dtype=torch.long)

    def decode(self, ids: Tensor) -> list[str]:
        """The words of ids `[T]`."""
        return [self.words[i] for i in ids.tolist()]
