"""Score a text with n-grams, token by token as the models do."""

import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from lm.data.datamodule import TextDataModule
from lm.evaluation.evaluator import EvaluationResult, tuning_text
from lm.evaluation.ngram import KneserNey, NGram
from lm.evaluation.protocol import Protocol
from lm.evaluation.scoring import Interpolation, TokenScores
from lm.ops import IGNORE_INDEX


class NGramEvaluator:
    """Evaluates n-grams of the training split on the tokens that the models score.

    They read a text in order, across the boundaries of the models' streams.

    Args:
        ngram: the n-grams.
        tune_tokens: of the validation split, for their weight in a mixture.
        protocol: that of a model, for the tokens that are scored.
        data: the text.
    """

    def __init__(self, ngram: KneserNey, tune_tokens: int, protocol: Protocol, data: TextDataModule) -> None:
        self.ngram = ngram
        self.tune_tokens = tune_tokens
        self.protocol = protocol
        self.data = data
        self.name = ngram.name
        self.tried: list[dict[str, Any]] = []
        self.stopped = False

    def results(self, split: str) -> Iterator[EvaluationResult]:
        """Estimate the n-grams, then score `valid` or `test`."""
        corpus = self.data.corpus
        try:
            model = self.ngram.train(corpus.train.numpy(), len(corpus.vocabulary))
            tuning = Interpolation().nll(self._score(model, tuning_text(self.data, self.tune_tokens)))
            yield EvaluationResult(
                (), Interpolation(), None, self._score(model, getattr(corpus, split)), self.name, tuning
            )
        except KeyboardInterrupt:
            self.stopped = True

    def _score(self, model: NGram, text: Tensor) -> TokenScores:
        started = time.perf_counter()
        log_probs = torch.from_numpy(model.log_probs(text.numpy(), self.data.corpus.vocabulary.eos_id))
        scored = self.protocol.streams(torch.arange(len(text)), eos_id=0).targets.mT.flatten()
        scored = scored[scored != IGNORE_INDEX]
        targets = text[scored].long()
        positions = torch.full_like(targets, len(model.orders) - 1)
        return TokenScores(
            targets, positions, {1.0: log_probs[scored]}, {}, time.perf_counter() - started, complete=True
        )
