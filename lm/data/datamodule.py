"""The LightningDataModule: a source of text in, BPTT windows for this process out."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from lightning import LightningDataModule
from torch import Tensor

from lm.config.checks import at_least
from lm.data.corpus import Corpus, load_corpus
from lm.data.sources import Splits, digest, has_checksums
from lm.data.vocabulary import Vocabulary
from lm.data.windows import Window, Windows, evaluation_columns, trimmed_columns
from lm.errors import UserError


class TextDataModule(LightningDataModule):
    """Streams a corpus as windows of `[T, B]` words, each process its own columns.

    Args:
        source: gives the text files of `root`; see `lm.data.sources`.
        root: the folder of the text.
        cache_dir: the folder for encoded corpora.
        min_count: words seen less often in the training split become `<unk>`.
        max_size: the most frequent words to keep; None keeps all.
        batch_size: columns of training text, over all devices.
        eval_batch_size: columns of validation and test text, over all devices.
        bptt: steps in a window.
        bptt_jitter: whether training windows vary in length as in AWD-LSTM, and the learning rate with them.
        trim_evaluation: drop the words that do not fill a row, and each column's first word, as pytorch/examples
            does; False scores every word once.
        seed: of the jitter.
        vocabulary: a trained model's words; None takes those of the training split.
        name: of the corpus, for its results.

    Raises:
        UserError: if a size is out of range.
    """

    def __init__(
        self,
        source: Callable[[Path], Splits],
        root: str | Path,
        cache_dir: str | Path,
        min_count: int = 1,
        max_size: int | None = None,
        batch_size: int = 20,
        eval_batch_size: int = 10,
        bptt: int = 35,
        bptt_jitter: bool = False,
        trim_evaluation: bool = False,
        seed: int = 0,
        vocabulary: Vocabulary | None = None,
        name: str = "text",
    ) -> None:
        super().__init__()
        at_least(1, min_count=min_count, batch_size=batch_size, eval_batch_size=eval_batch_size, bptt=bptt)
        at_least(3, max_size=max_size)
        self.source = source
        self.root = Path(root).expanduser().absolute()
        self.cache_dir = Path(cache_dir).expanduser().absolute()
        self.min_count = min_count
        self.max_size = max_size
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.bptt = bptt
        self.bptt_jitter = bptt_jitter
        self.trim_evaluation = trim_evaluation
        self.seed = seed
        self.given_vocabulary = vocabulary
        self.corpus_name = name

    @cached_property
    def corpus(self) -> Corpus:
        """The encoded text, read on first use.

        Raises:
            UserError: if there is none, or it cannot be read.
        """
        with self._readable():
            return load_corpus(self.files, self.cache_dir, self.min_count, self.max_size, self.given_vocabulary)

    @cached_property
    def files(self) -> Splits:
        """The text files.

        Raises:
            UserError: if there are none, or several to choose from.
        """
        with self._readable():
            return self.source(self.root)

    def title(self, split: str) -> str:
        """A name that no other text has: the corpus's, or the folder's with the beginning of the split's checksum."""
        if has_checksums(self.source):
            return self.corpus_name
        file = getattr(self.files, split)
        return f"{file.parent.resolve().name[:50] or self.corpus_name}-{digest(file)[:8]}"

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(f"Cannot read the text in data.root={self.root}: {error}.") from error

    def train_dataloader(self) -> Windows:
        """Windows of the training split."""
        processes = self._processes
        if self.batch_size % processes:
            raise UserError(
                f"data.batch_size={self.batch_size} cannot be divided among {processes} devices: "
                f"use a multiple of {processes}."
            )
        columns = trimmed_columns(self.corpus.train, self.batch_size, "data.batch_size")
        return Windows(self._own(columns), self.bptt, self.bptt_jitter, self.seed)

    def val_dataloader(self) -> Windows:
        """Windows of the validation split."""
        return self._evaluation_windows(self.corpus.valid)

    def test_dataloader(self) -> Windows:
        """Windows of the test split."""
        return self._evaluation_windows(self.corpus.test)

    def _evaluation_windows(self, stream: Tensor) -> Windows:
        if self.trim_evaluation:
            columns = trimmed_columns(stream, self.eval_batch_size, "data.eval_batch_size")
        else:
            columns = evaluation_columns(stream, self.eval_batch_size, self.corpus.vocabulary.eos_id)
        return Windows(self._own(columns), self.bptt)

    def _own(self, columns: Window) -> Window:
        """The columns of this process, of as equal a number as can be."""
        processes = self._processes
        if columns.inputs.size(1) < processes:
            raise UserError(f"data.eval_batch_size must be at least the number of devices, {processes}.")
        rank = self.trainer.global_rank if self.trainer else 0
        return Window(*(ids.tensor_split(processes, dim=1)[rank] for ids in columns))

    @property
    def _processes(self) -> int:
        return self.trainer.world_size if self.trainer else 1
