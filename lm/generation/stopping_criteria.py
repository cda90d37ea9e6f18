"""Stopping criteria: when a text is finished."""

import torch
from torch import Tensor

from lm.data.vocabulary import EOS, Vocabulary
from lm.errors import UserError
from lm.generation.config import GenerationConfig

SENTENCE_ENDS = (".", "!", "?")


class StoppingCriteria:
    """Finishes texts by `max_lines` and `max_sentences`: when it has that many `<eos>`, or sentence ends."""

    def __init__(self, config: GenerationConfig, vocabulary: Vocabulary) -> None:
        sentence_ends = [end for end in SENTENCE_ENDS if end in vocabulary]
        if config.max_sentences is not None and not sentence_ends:
            raise UserError(
                f"max_sentences={config.max_sentences} given, but the vocabulary has none of {SENTENCE_ENDS}."
            )
        limits = ([EOS], config.max_lines), (sentence_ends, config.max_sentences)
        self.limits = [(vocabulary.encode(ends), count) for ends, count in limits if count is not None]

    def are_met(self, generated: Tensor) -> Tensor:
        """Which of the texts `[B, T]`, prompts excluded, are finished: `[B]`."""
        finished = generated.new_zeros(len(generated), dtype=torch.bool)
        for ends, count in self.limits:
            finished |= torch.isin(generated, ends.to(generated.device)).sum(1) >= count
        return finished
