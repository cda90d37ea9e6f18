"""When a text is finished."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lm.data.vocabulary import EOS, Vocabulary
from lm.errors import UserError
from lm.generation.config import GenerationConfig

SENTENCE_ENDS = (".", "!", "?")


@dataclass(frozen=True)
class StoppingCriterion:
    """A text is finished when `count` of its tokens are among `token_ids`."""

    token_ids: Tensor
    count: int

    def is_met(self, generated: Tensor) -> Tensor:
        """By which of the texts `[B, T]`, prompts excluded: `[B]`."""
        return torch.isin(generated, self.token_ids.to(generated.device)).sum(1) >= self.count


def stopping_criteria(config: GenerationConfig, vocabulary: Vocabulary) -> list[StoppingCriterion]:
    """What `max_lines` and `max_sentences` ask for."""
    sentence_ends = [end for end in SENTENCE_ENDS if end in vocabulary]
    if config.max_sentences is not None and not sentence_ends:
        raise UserError(f"max_sentences={config.max_sentences} given, but the vocabulary has none of {SENTENCE_ENDS}.")
    limits = ([EOS], config.max_lines), (sentence_ends, config.max_sentences)
    return [StoppingCriterion(vocabulary.encode(ends), count) for ends, count in limits if count is not None]


def is_finished(criteria: Sequence[StoppingCriterion], generated: Tensor) -> Tensor:
    """Which of the texts `[B, T]`, prompts excluded, meet any of the criteria: `[B]`."""
    finished = generated.new_zeros(len(generated), dtype=torch.bool)
    for criterion in criteria:
        finished |= criterion.is_met(generated)
    return finished
