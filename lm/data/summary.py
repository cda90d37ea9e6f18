"""What is said of a text before it is used: its files, its tokens, and how much of it is `<unk>`."""

import sys
from collections.abc import Collection

from lightning.pytorch.utilities.rank_zero import rank_zero_only

from lm.data.datamodule import TextDataModule
from lm.data.sources import Splits

HIGHEST_SHARE = 0.5  # of `<unk>`, above which a perplexity says nothing of the words


@rank_zero_only
def print_summary(data: TextDataModule, splits: Collection[str] = Splits._fields) -> None:
    """Print a line for each split, from the process of rank 0 alone, and warn of those that are mostly `<unk>`."""
    for split in splits:
        file, share = getattr(data.files, split), data.corpus.unknown_share(split)
        print(f"{split}: {len(getattr(data.corpus, split)):,} tokens, {share:.1%} <unk>, of {file}", flush=True)
        if share > HIGHEST_SHARE:
            print(
                f"Warning: {share:.0%} of the words of {file} are not in the vocabulary and read as <unk>, so a "
                "perplexity says little: separate words by spaces, lower data.min_count, or score similar text.",
                file=sys.stderr,
                flush=True,
            )
