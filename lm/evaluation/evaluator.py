"""Run an evaluation: tune the methods' values on the validation split, then score a split with them."""

import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import islice
from typing import Any, TypeVar

from lightning import Fabric
from rich.progress import track
from torch import Tensor

from lm.data.datamodule import TextDataModule
from lm.evaluation.config import EvaluationConfig
from lm.evaluation.dynamic_evaluation import DynamicEvaluation, gradient_rms
from lm.evaluation.scoring import Interpolation, TokenScores, score_tokens
from lm.models import CausalLM

T = TypeVar("T")


@dataclass(frozen=True)
class EvaluationResult:
    """The loss with a combination of methods.

    Attributes:
        methods: the names of those used, except dynamic evaluation.
        interpolation: their values.
        dynamic: dynamic evaluation; None where the weights are fixed.
        scores: of the pass over the text.
        model: its name, where there are several.
        tuning_nll: the loss of each token of the tuning text, for the weight in a mixture.
        weights: of a mixture, by the models' names.
    """

    methods: tuple[str, ...]
    interpolation: Interpolation
    dynamic: DynamicEvaluation | None
    scores: TokenScores
    model: str = ""
    tuning_nll: Tensor | None = None
    weights: Mapping[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The names of the model, if it has one, and of all methods; "model" without any."""
        dynamic = "dynamic" if self.dynamic else ""
        return ", ".join(filter(None, (self.model, dynamic, *self.methods))) or "model"

    @cached_property
    def nll(self) -> Tensor:
        """The loss of each token in nats, `[N]` in fp64."""
        return self.interpolation.nll(self.scores)

    @cached_property
    def loss(self) -> float:
        """The mean loss in nats; infinite if it is NaN, as with too high a learning rate."""
        loss = self.nll.mean().item()
        return math.inf if math.isnan(loss) else loss

    @property
    def values(self) -> dict[str, float]:
        """The methods' values, or the weights of a mixture."""
        if self.weights:
            return dict(self.weights)
        chosen, dynamic = self.interpolation, self.dynamic
        values = {"temperature": chosen.temperature} if chosen.temperature != 1 else {}
        if chosen.theta is not None:
            values |= {"theta": chosen.theta, "interpolation_weight": chosen.interpolation_weight}
        return values | {"lr": dynamic.lr, "decay": dynamic.decay} if dynamic else values


class Evaluator:
    """Evaluates a model.

    Args:
        config: the protocol and methods.
        model: in evaluation mode, on the device of `fabric`.
        data: the text, in the model's vocabulary.
        fabric: the device and the precision.
        name: of the model, if there are several.
        mixed: whether its results will be mixed with others, and so need the loss on the tuning text.

    Attributes:
        tried: the values tried on the validation split, each with its loss in nats.
        stopped: whether Ctrl-C has interrupted it.
    """

    def __init__(
        self,
        config: EvaluationConfig,
        model: CausalLM,
        data: TextDataModule,
        fabric: Fabric,
        name: str = "",
        mixed: bool = False,
    ) -> None:
        self.config = config
        self.protocol = config.protocol(model.core)
        self.model = model
        self.data = data
        self.fabric = fabric
        self.name = name
        self.mixed = mixed
        self.tried: list[dict[str, Any]] = []
        self.stopped = False

    def results(self, split: str) -> Iterator[EvaluationResult]:
        """Score `valid` or `test`, first with fixed weights, then with dynamic evaluation; Ctrl-C ends it early."""
        token_ids = getattr(self.data.corpus, split)
        try:
            yield from self._results(token_ids, split, None)
            if self.config.dynamic:
                yield from self._results(token_ids, split, self._chosen_dynamic())
        except KeyboardInterrupt:
            self.stopped = True

    def _results(self, token_ids: Tensor, split: str, dynamic: DynamicEvaluation | None) -> Iterator[EvaluationResult]:
        """The results of one pass over a split, one for each combination of methods."""
        interpolations, tuning = self._chosen_interpolations(dynamic)
        scores = self._score(token_ids, interpolations.values(), dynamic, split)
        for methods, interpolation in interpolations.items():
            nll = interpolation.nll(tuning) if tuning else None
            yield EvaluationResult(methods, interpolation, dynamic, scores, self.name, nll)
        if not scores.complete:
            raise KeyboardInterrupt

    def _chosen_dynamic(self) -> DynamicEvaluation | None:
        """Dynamic evaluation with the values that are best by themselves on the tuning text, one pass for each."""
        candidates = self.config.dynamic_candidates()
        if len(candidates) == 1:
            return candidates[0]
        alone = Interpolation()
        return self._best(
            [EvaluationResult((), alone, each, self._tune([alone], each), self.name) for each in candidates]
        ).dynamic

    def _chosen_interpolations(
        self, dynamic: DynamicEvaluation | None
    ) -> tuple[dict[tuple[str, ...], Interpolation], TokenScores | None]:
        """The best values for each combination on the tuning text, in one pass, and, if needed, that text's scores."""
        candidates = self.config.interpolations()
        if not self.config.tune:
            given = {methods: each for methods, [each] in candidates.items()}
            return given, self._tune(given.values(), dynamic) if self.mixed else None
        scores = self._tune([each for group in candidates.values() for each in group], dynamic)
        best = {
            methods: self._best(
                [EvaluationResult(methods, each, dynamic, scores, self.name) for each in group]
            ).interpolation
            for methods, group in candidates.items()
        }
        return best, scores

    def _best(self, results: Sequence[EvaluationResult]) -> EvaluationResult:
        """The result with the lowest loss; all are recorded in `tried`."""
        self.tried += [{"name": result.name, **result.values, "loss": result.loss} for result in results]
        return min(results, key=lambda result: result.loss)

    def _tune(self, interpolations: Iterable[Interpolation], dynamic: DynamicEvaluation | None) -> TokenScores:
        """Score the beginning of the validation split."""
        values = f" lr={dynamic.lr:g} decay={dynamic.decay:g}" if dynamic else ""
        scores = self._score(
            tuning_text(self.data, self.config.tune_tokens), interpolations, dynamic, f"tuning{values}"
        )
        if not scores.complete:
            raise KeyboardInterrupt
        return scores

    def _score(
        self,
        token_ids: Tensor,
        interpolations: Iterable[Interpolation],
        dynamic: DynamicEvaluation | None,
        description: str,
    ) -> TokenScores:
        """Score a text in one pass, for all interpolations."""
        windows = self.protocol.windows(token_ids, self.data.corpus.vocabulary.eos_id)
        temperatures = sorted({each.temperature for each in interpolations})
        thetas = sorted({each.theta for each in interpolations if each.theta is not None})
        cache_window = self.config.cache.window if self.config.cache else 0
        rms = self._gradient_rms if dynamic and dynamic.statistics else None
        with dynamic.adapting(self.model, rms) if dynamic else nullcontext() as step:
            progress = partial(with_progress_bar, description=description, total=len(windows))
            autocast = self.fabric.autocast
            return score_tokens(self.model, windows, temperatures, thetas, cache_window, step, autocast, progress)

    @cached_property
    def _gradient_rms(self) -> list[Tensor]:
        """The RMS of the gradients on the training split."""
        assert self.config.dynamic and self.config.dynamic.statistics
        windows = self.data.train_dataloader()
        count = min(self.config.dynamic.statistics.windows, len(windows))
        tracked = with_progress_bar(islice(windows, count), "gradients of the training text", count)
        return gradient_rms(self.model, tracked, self.fabric.autocast)


def tuning_text(data: TextDataModule, tune_tokens: int) -> Tensor:
    """The beginning of the validation split, to choose values and the weights of a mixture on, `[N]`."""
    return data.corpus.valid[:tune_tokens]


def with_progress_bar(windows: Iterable[T], description: str, total: int) -> Iterable[T]:
    """The same windows, with a progress bar on a terminal."""
    return track(windows, description, total, transient=True, disable=not sys.stdout.isatty())
