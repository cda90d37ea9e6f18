"""Carrying out an evaluation: values are chosen on the validation text, then the split is scored with them."""

import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, TypeVar

from lightning import Fabric
from rich.progress import track
from torch import Tensor

from lm.data.datamodule import TextDataModule
from lm.evaluation.config import PLAIN, Evaluation
from lm.evaluation.dynamic_evaluation import DynamicEvaluation, root_mean_squares
from lm.evaluation.scoring import Mixture, TokenScores, measure
from lm.models import CausalLM

T = TypeVar("T")


@dataclass(frozen=True)
class Result:
    """What a combination of aids has come to.

    Attributes:
        name: of the combination.
        variant: of the distribution.
        rule: of dynamic evaluation; None where the weights stayed.
        measurement: the pass that it was found in.
    """

    name: str
    variant: Mixture
    rule: DynamicEvaluation | None
    measurement: TokenScores

    @cached_property
    def nats(self) -> Tensor:
        """The loss of each word, `[N]` in fp64."""
        return self.variant.nats(self.measurement)

    @cached_property
    def loss(self) -> float:
        """The mean loss in nats; infinite where a learning rate was too high for any."""
        loss = self.nats.mean().item()
        return math.inf if math.isnan(loss) else loss

    @property
    def values(self) -> dict[str, float]:
        """The values of the aids that were used."""
        variant, rule = self.variant, self.rule
        values = {"temperature": variant.temperature} if variant.temperature != 1 else {}
        if variant.theta is not None:
            values |= {"theta": variant.theta, "share": variant.share}
        return values | {"lr": rule.lr, "decay": rule.decay} if rule else values


class Evaluator:
    """Carries out evaluations of a model.

    Args:
        evaluation: what to do.
        model: in evaluation mode, on the device of `fabric`.
        data: the text, in the model's words.
        fabric: the device and the precision.

    Raises:
        UserError: if the protocol does not suit the model.

    Attributes:
        tried: the values that were tried on the validation text, each with its loss in nats.
        stopped: whether Ctrl-C has cut it short.
    """

    def __init__(self, evaluation: Evaluation, model: CausalLM, data: TextDataModule, fabric: Fabric) -> None:
        self.evaluation = evaluation
        self.layout = evaluation.layout.fitted(model.core)
        self.model = model
        self.data = data
        self.fabric = fabric
        self.tried: list[dict[str, Any]] = []
        self.stopped = False

    def results(self, split: str) -> Iterator[Result]:
        """Score a split, `valid` or `test`, first with the weights as they are, then with dynamic evaluation.

        Ctrl-C ends it with what there is.
        """
        stream = getattr(self.data.corpus, split)
        try:
            for rules in ([None], self.evaluation.rules()):
                if not rules:
                    continue
                rule, variants = self._chosen(rules)
                measurement = self._measure(stream, variants.values(), rule, split)
                yield from (
                    Result(_joined(name, rule), variant, rule, measurement) for name, variant in variants.items()
                )
                if not measurement.complete:
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            self.stopped = True

    def _chosen(self, rules: Sequence[DynamicEvaluation | None]) -> tuple[DynamicEvaluation | None, dict[str, Mixture]]:
        """The rule, and for each combination the variant, that do best on the validation text, or that were given."""
        kinds = self.evaluation.variants()
        if not self.evaluation.tune:
            return rules[0], {name: variants[0] for name, variants in kinds.items()}
        rule = rules[0]
        if len(rules) > 1:
            plain = [Mixture()]
            tried = [Result("dynamic", Mixture(), rule, self._try(plain, rule)) for rule in rules]
            rule = self._best(tried).rule
        measurement = self._try([variant for variants in kinds.values() for variant in variants], rule)
        chosen = {}
        for name, variants in kinds.items():
            tried = [Result(_joined(name, rule), variant, rule, measurement) for variant in variants]
            chosen[name] = self._best(tried).variant
        return rule, chosen

    def _best(self, results: Sequence[Result]) -> Result:
        """The result with the lowest loss; all are kept in `tried`."""
        self.tried += [{"name": result.name, **result.values, "loss": result.loss} for result in results]
        return min(results, key=lambda result: result.loss)

    def _try(self, variants: Iterable[Mixture], rule: DynamicEvaluation | None) -> TokenScores:
        """Measure the beginning of the validation text."""
        stream = self.data.corpus.valid[: self.evaluation.tune_tokens]
        at = f" lr={rule.lr:g} decay={rule.decay:g}" if rule else ""
        measurement = self._measure(stream, variants, rule, f"tuning{at}")
        if not measurement.complete:
            raise KeyboardInterrupt
        return measurement

    def _measure(
        self, stream: Tensor, variants: Iterable[Mixture], rule: DynamicEvaluation | None, description: str
    ) -> TokenScores:
        """Read a text once, for all variants."""
        windows = self.layout.windows(self.layout.lay_out(stream, self.data.corpus.vocabulary.eos_id))
        temperatures = sorted({variant.temperature for variant in variants})
        thetas = sorted({variant.theta for variant in variants if variant.theta is not None})
        cache_window = self.evaluation.cache.window if self.evaluation.cache else 0
        rms = self._root_mean_squares if rule and rule.statistics else None
        with rule.adapting(self.model, rms) if rule else nullcontext() as adaptation:
            shown = shown_progress(windows, description, len(windows))
            return measure(self.model, shown, temperatures, thetas, cache_window, adaptation, self.fabric.autocast)

    @cached_property
    def _root_mean_squares(self) -> list[Tensor]:
        """Of the gradients on the training text."""
        assert self.evaluation.dynamic and self.evaluation.dynamic.statistics
        statistics = self.evaluation.dynamic.statistics
        windows = islice(self.data.train_dataloader(), statistics.windows)
        shown = shown_progress(windows, "gradients of the training text", statistics.windows)
        return root_mean_squares(self.model, shown, self.fabric.autocast)


def shown_progress(windows: Iterable[T], description: str, total: int) -> Iterable[T]:
    """The same windows, with a progress bar where someone watches."""
    return track(windows, description, total, transient=True, disable=not sys.stdout.isatty())


def _joined(name: str, rule: DynamicEvaluation | None) -> str:
    """The name of a combination that also has dynamic evaluation, or has not."""
    return name if rule is None else "dynamic" if name == PLAIN else f"dynamic, {name}"
