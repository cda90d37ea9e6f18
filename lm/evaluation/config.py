"""What an evaluation is: a protocol, and the aids that a model may use."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

from lm.config.checks import above_zero, at_least
from lm.evaluation.dynamic_evaluation import DynamicEvaluation
from lm.evaluation.neural_cache import NeuralCache
from lm.evaluation.protocol import Protocol
from lm.evaluation.scoring import Mixture

PLAIN = "model"  # the name of the combination without any aid


@dataclass(frozen=True)
class Evaluation:
    """How a text is scored: plainly, and with each aid that is asked for, alone and together.

    Args:
        name: of the protocol.
        columns: see `Protocol`.
        trim: see `Protocol`.
        context: see `Protocol`.
        stride: see `Protocol`.
        temperature: divides the log-probabilities, which are then normalised again.
        temperatures: candidates to choose from on the validation text.
        cache: the neural cache, or None.
        dynamic: dynamic evaluation, or None.
        tune: choose the values of all aids from their candidates on the validation text.
        tune_tokens: of the validation text, from its beginning on.

    Raises:
        UserError: if a value is out of range.
    """

    name: str = "full"
    columns: int = 10
    trim: bool = False
    context: int | None = None
    stride: int | None = None
    temperature: float = 1.0
    temperatures: Sequence[float] = ()
    cache: NeuralCache | None = None
    dynamic: DynamicEvaluation | None = None
    tune: bool = False
    tune_tokens: int = 50_000

    def __post_init__(self) -> None:
        for temperature in (self.temperature, *self.temperatures):
            above_zero(temperature=temperature)
        at_least(1, tune_tokens=self.tune_tokens)
        at_least(1, columns=self.columns, context=self.context, stride=self.stride)

    @cached_property
    def layout(self) -> Protocol:
        """The protocol."""
        return Protocol(self.columns, self.trim, self.context, self.stride)

    def variants(self) -> dict[str, list[Mixture]]:
        """For each combination of aids that leave the weights alone, the values to choose from, or the only ones."""
        kinds = {PLAIN: [Mixture()]}
        temperatures = self.temperatures if self.tune and self.temperatures else [self.temperature]
        if list(temperatures) != [1]:
            kinds["temperature"] = [Mixture(temperature) for temperature in temperatures]
        if self.cache:
            pairs = self._choices(self.cache, "theta", "share")
            kinds["cache"] = [Mixture(1.0, *pair) for pair in pairs]
            if "temperature" in kinds:
                kinds["temperature, cache"] = [Mixture(each, *pair) for each, pair in product(temperatures, pairs)]
        return kinds

    def rules(self) -> list[DynamicEvaluation]:
        """The values of dynamic evaluation to choose from, or the only ones."""
        if self.dynamic is None:
            return []
        return [replace(self.dynamic, lr=lr, decay=decay) for lr, decay in self._choices(self.dynamic, "lr", "decay")]

    def _choices(self, aid: NeuralCache | DynamicEvaluation, *names: str) -> list[tuple[float, ...]]:
        """All combinations of an aid's candidates, or the only one that is given."""
        candidates = aid.candidates if self.tune else {}
        return list(product(*(candidates.get(name, [getattr(aid, name)]) for name in names)))
