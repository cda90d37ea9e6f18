"""From text to BPTT windows: sources, vocabulary, encoded corpus, windows, and the DataModule that joins them."""

from lm.data.corpus import Corpus, load_corpus
from lm.data.sources import Splits
from lm.data.vocabulary import EOS, UNK, Vocabulary
from lm.data.windows import Window, Windows

__all__ = ["EOS", "UNK", "Corpus", "Splits", "Vocabulary", "Window", "Windows", "load_corpus"]
