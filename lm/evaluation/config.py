"""The config of an evaluation: a protocol and test-time methods."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, product
from typing import Any, TypeVar

from lm.config.checks import above_zero, at_least
from lm.evaluation.dynamic_evaluation import DynamicEvaluation
from lm.evaluation.neural_cache import NeuralCache
from lm.evaluation.ngram import KneserNey
from lm.evaluation.protocol import Protocol
from lm.evaluation.scoring import Interpolation
from lm.models import Core

Method = TypeVar("Method", NeuralCache, DynamicEvaluation)


@dataclass(frozen=True)
class EvaluationConfig:
    """How to score a text: by the model alone, and with each combination of the given test-time methods.

    Args:
        name: of the protocol.
        batch_size: see `Protocol`, also for `trim`, `context` and `stride`.
        temperature: divides the logits.
        temperatures: candidates to tune on the validation split.
        cache: the neural cache, or None.
        dynamic: dynamic evaluation, or None.
        ngram: n-grams to score beside the models and mix with them, or None.
        tune: whether to choose all methods' values from their candidates on the validation split.
        tune_tokens: the number of tokens, from the beginning of the validation split, to tune on; also the weights of a
            mixture.
    """

    name: str = "full"
    batch_size: int = 10
    trim: bool = False
    context: int | None = None
    stride: int | None = None
    temperature: float = 1.0
    temperatures: Sequence[float] = ()
    cache: NeuralCache | None = None
    dynamic: DynamicEvaluation | None = None
    ngram: KneserNey | None = None
    tune: bool = False
    tune_tokens: int = 50_000

    def __post_init__(self) -> None:
        for temperature in (self.temperature, *self.temperatures):
            above_zero(temperature=temperature)
        at_least(1, tune_tokens=self.tune_tokens)
        at_least(1, batch_size=self.batch_size, context=self.context, stride=self.stride)

    @property
    def title(self) -> str:
        """Part of file names: the protocol, unless it is `full`, and all methods, as `.awd_lstm.dynamic.cache`."""
        protocol = [] if self.name == "full" else [self.name]
        *_, methods = self.interpolations()  # the last combination is all of them
        ngram = [self.ngram.name] if self.ngram else []
        return "".join(f".{each}" for each in (*protocol, *(["dynamic"] if self.dynamic else []), *methods, *ngram))

    def protocol(self, core: Core) -> Protocol:
        """The protocol for a model with this core."""
        return Protocol.for_core(core, self.batch_size, self.trim, self.context, self.stride)

    def interpolations(self) -> dict[tuple[str, ...], list[Interpolation]]:
        """For each combination of methods that keep the weights fixed, the candidates, or the given values."""
        temperatures = self.temperatures if self.tune and self.temperatures else [self.temperature]
        caches = [(cache.theta, cache.interpolation_weight) for cache in self._grid(self.cache)]
        candidates: dict[tuple[str, ...], list[Interpolation]] = {(): [Interpolation()]}
        if tempered := list(temperatures) != [1]:
            candidates["temperature",] = [Interpolation(temperature) for temperature in temperatures]
        if caches:
            candidates["cache",] = [Interpolation(1.0, *cache) for cache in caches]
        if tempered and caches:
            pairs = product(temperatures, caches)
            candidates["temperature", "cache"] = [Interpolation(temperature, *cache) for temperature, cache in pairs]
        return candidates

    def dynamic_candidates(self) -> list[DynamicEvaluation]:
        """The candidates of dynamic evaluation, or the given values; empty without it."""
        return self._grid(self.dynamic)

    def at_the_ends(self, chosen: Iterable[Mapping[str, float]]) -> list[str]:
        """A line for each tuned value that is the lowest or the highest of its candidates, so that more may help.

        Args:
            chosen: the tuned values of each result, by their keys.
        """
        if not self.tune:
            return []
        grids = {"temperature": ("evaluation.temperatures", self.temperatures)}
        for group, method in (("cache", self.cache), ("dynamic", self.dynamic)):
            if method:
                grids |= {
                    key: (f"evaluation.{group}.candidates.{key}", each) for key, each in method.candidates.items()
                }
        lines = []
        for key, value in chain.from_iterable(values.items() for values in chosen):
            name, candidates = grids.get(key, ("", ()))
            if len(set(candidates)) > 1 and value in (min(candidates), max(candidates)) and value != 0:
                end, better = ("lowest", "lower") if value == min(candidates) else ("highest", "higher")
                listed = ",".join(f"{each:g}" for each in candidates)
                lines.append(f"{key}={value:g} is the {end} of {name}=[{listed}]: a {better} one may be better.")
        return list(dict.fromkeys(lines))

    def _grid(self, method: Method | None) -> list[Method]:
        """The method with each combination of its candidates when tuning, else as given."""
        if method is None:
            return []
        candidates: Mapping[str, Sequence[Any]] = method.candidates if self.tune else {}
        return [
            replace(method, **dict(zip(candidates, values, strict=True))) for values in product(*candidates.values())
        ]
