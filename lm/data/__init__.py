"""From text to BPTT windows: sources, vocabulary, encoded corpus, windows, and the DataModule that joins them."""

from typing import TYPE_CHECKING, Any

from lm.data.corpus import Corpus, load_corpus
from lm.data.sources import Splits
from lm.data.vocabulary import EOS, UNK, Vocabulary
from lm.data.windows import IGNORE_INDEX, Window, Windows

if TYPE_CHECKING:
    from lm.data.datamodule import TextDataModule

__all__ = [
    "EOS",
    "IGNORE_INDEX",
    "UNK",
    "Corpus",
    "Splits",
    "TextDataModule",
    "Vocabulary",
    "Window",
    "Windows",
    "load_corpus",
]


def __getattr__(name: str) -> Any:
    """Import Lightning only where text is read by it, so that a trained model answers at once."""
    if name == "TextDataModule":
        from lm.data.datamodule import TextDataModule

        return TextDataModule
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
