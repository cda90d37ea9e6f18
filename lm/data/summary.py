"""A summary of a corpus: its files, number of tokens and fraction of `<unk>`."""

from collections.abc import Collection

from lightning.pytorch.utilities.rank_zero import rank_zero_only

from lm.data.datamodule import TextDataModule
from lm.data.sources import Splits
from lm.files.errors import warn

HIGHEST_UNK_RATE = 0.5  # above which a perplexity is meaningless


@rank_zero_only
def print_summary(data: TextDataModule, splits: Collection[str] = Splits._fields) -> None:
    """Print a line per split, on rank 0 only, and warn about those that are mostly `<unk>`."""
    for split in splits:
        file, rate = getattr(data.files, split), data.corpus.unk_rate(split)
        print(f"{split}: {len(getattr(data.corpus, split)):,} tokens, {rate:.1%} <unk>, of {file}", flush=True)
        if rate > HIGHEST_UNK_RATE:
            warn(
                f"{rate:.0%} of the words of {file} are not in the vocabulary and read as <unk>, so a perplexity says "
                "little: separate words by spaces, lower min_count, or score similar text."
            )
    if {"train", "valid"} <= {*splits} and data.corpus.unk_rate("valid") > 0 == data.corpus.unk_rate("train"):
        warn(
            "<unk> is in the validation text but not in the training text, so it is not learnt: give data.min_count=2."
        )
