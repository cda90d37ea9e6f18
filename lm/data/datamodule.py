"""The LightningDataModule: from a source of text to the BPTT windows of this rank."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lightning import LightningDataModule
from torch import Tensor

from lm.config.checks import at_least
from lm.data.corpus import Corpus, load_corpus
from lm.data.sources import Splits, digest, has_checksums
from lm.data.vocabulary import Vocabulary
from lm.data.windows import Window, Windows, batchify, batchify_padded
from lm.errors import UserError
from lm.files.errors import explain_os_errors


@dataclass(eq=False, repr=False)
class TextDataModule(LightningDataModule):
    """Windows `[T, B]` of a corpus, whose B streams are divided among the ranks."""

    source: Callable[[Path], Splits]  # returns the text files of `root`; see `lm.data.sources`
    root: str | Path
    cache_dir: str | Path  # of encoded corpora
    min_count: int = 1  # words seen less often in the training split become `<unk>`
    max_size: int | None = None  # the most frequent words to keep; None keeps all
    tokenize: bool = False  # separate punctuation from words, in the style of Wikitext; see `lm.data.tokenize`
    batch_size: int = 20  # streams of training text, over all devices
    eval_batch_size: int = 10  # streams of validation and test text, over all devices
    bptt: int = 35  # steps in a window
    bptt_jitter: bool = False  # vary window lengths, and the learning rate in proportion, as AWD-LSTM does
    eval_trim: bool = False  # drop the tokens that `batchify` drops, as pytorch/examples does
    partial_shuffle: bool = False  # rotate each stream of training text by an offset of its own in every epoch
    seed: int = 0  # of the jitter and the partial shuffle
    vocabulary: Vocabulary | None = None  # of a trained model; None builds it from the training split
    name: str = "text"  # of the corpus, in results

    def __post_init__(self) -> None:
        super().__init__()
        at_least(1, min_count=self.min_count, bptt=self.bptt)
        at_least(1, batch_size=self.batch_size, eval_batch_size=self.eval_batch_size)
        at_least(3, max_size=self.max_size)
        self.root = Path(self.root).expanduser().absolute()
        self.cache_dir = Path(self.cache_dir).expanduser().absolute()

    @cached_property
    def files(self) -> Splits:
        """The text files."""
        with explain_os_errors(f"read the text in root={self.root}"):
            return self.source(Path(self.root))

    @cached_property
    def corpus(self) -> Corpus:
        """The encoded text, read on first use."""
        cache_dir = Path(self.cache_dir)
        return load_corpus(self.files, cache_dir, self.min_count, self.max_size, self.vocabulary, self.tokenize)

    def title(self, split: str) -> str:
        """A unique name: the corpus's, or the folder's with the first digits of the split's checksum."""
        if has_checksums(self.source):
            return self.name
        file = getattr(self.files, split)
        return f"{file.parent.resolve().name[:50] or self.name}-{digest(file)[:8]}"

    def train_dataloader(self) -> Windows:
        if self.batch_size % self._processes:
            raise UserError(
                f"batch_size={self.batch_size} given, but it cannot be divided among {self._processes} devices: "
                f"use a multiple of {self._processes}."
            )
        streams = batchify(self._on_device(self.corpus.train), self.batch_size)
        ranks = self._rank, self._processes
        return Windows(self._own(streams), self.bptt, self.bptt_jitter, self.seed, self.partial_shuffle, *ranks)

    def val_dataloader(self) -> Windows:
        return self._evaluation_windows(self.corpus.valid)

    def test_dataloader(self) -> Windows:
        return self._evaluation_windows(self.corpus.test)

    def _evaluation_windows(self, text: Tensor) -> Windows:
        text = self._on_device(text)
        if self.eval_trim:
            streams = batchify(text, self.eval_batch_size, "eval_batch_size")
        else:
            streams = batchify_padded(text, self.eval_batch_size, self.corpus.vocabulary.eos_id)
        return Windows(self._own(streams), self.bptt)

    def _on_device(self, text: Tensor) -> Tensor:
        """The text `[N]` on the trainer's device, so that windows are slices of it and no step waits for a copy."""
        return text.to(self.trainer.strategy.root_device) if self.trainer else text

    def _own(self, streams: Window) -> Window:
        """The streams of this rank, divided as evenly as possible."""
        if streams.inputs.size(1) < self._processes:
            raise UserError(
                f"eval_batch_size={self.eval_batch_size} given, but each of {self._processes} devices needs a stream: "
                "use more, and a longer text if it has fewer tokens."
            )
        return Window(*(ids.tensor_split(self._processes, dim=1)[self._rank] for ids in streams))

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer else 0

    @property
    def _processes(self) -> int:
        return self.trainer.world_size if self.trainer else 1
