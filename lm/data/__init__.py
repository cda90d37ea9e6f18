"""From text to BPTT windows: sources, vocabulary, encoded corpus, windows, and the DataModule that joins them."""

from lm.data.corpus import Corpus, load_corpus
from lm.data.datamodule import TextDataModule
from lm.data.sources import Splits
from lm.data.vocabulary import EOS, UNK, Vocabulary
from lm.data.windows import IGNORED, Window, Windows

__all__ = [
    "EOS",
    "IGNORED",
    "UNK",
    "Corpus",
    "Splits",
    "TextDataModule",
    "Vocabulary",
    "Window",
    "Windows",
    "load_corpus",
]
