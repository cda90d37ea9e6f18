"""Dynamic evaluation (Krause et al. 2018): the model goes on learning from the text it has just been scored on."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lm.config.checks import above_zero, at_least, candidates_for, one_of, probability
from lm.data.windows import Window
from lm.models import CausalLM

NORMALIZATIONS = ("weights", "tensors")


@dataclass(frozen=True)
class GradientStatistics:
    """How large the gradients of each weight were on the training text.

    Args:
        windows: of the training text to look at.
        epsilon: added to the root of the mean squares.
        normalization: what the decay's RMS is divided by: "weights", its mean over all weights, or "tensors", the mean
            of the parameter tensors' means, as Krause's program does, so that its λ transfers.

    Raises:
        UserError: if a value is out of range.
    """

    windows: int
    epsilon: float
    normalization: str = "weights"

    def __post_init__(self) -> None:
        at_least(1, windows=self.windows)
        above_zero(epsilon=self.epsilon)
        one_of(NORMALIZATIONS, normalization=self.normalization)

    def mean(self, rms: Sequence[Tensor]) -> Tensor:
        """The mean RMS that decays are relative to."""
        if self.normalization == "tensors":
            return torch.stack([root.mean() for root in rms]).mean()
        return torch.cat([root.flatten() for root in rms]).mean()


@dataclass(frozen=True)
class DynamicEvaluation:
    """After each window the weights follow its gradient, and fall back a little towards the trained ones.

    θ ← θ - η g + λ (θ₀ - θ), or with statistics θ ← θ - η g / (RMS + ε) + λ RMS / mean(RMS) (θ₀ - θ), where the
    factor of the last term is at most 1 and `GradientStatistics` says which mean it is.

    Args:
        lr: η.
        decay: λ.
        statistics: of the gradients (the paper's RMS rule); None for plain SGD.
        candidates: values of `lr` and `decay` to choose from on the validation text.

    Raises:
        UserError: if a value is out of range.
    """

    lr: float
    decay: float
    statistics: GradientStatistics | None = None
    candidates: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        candidates_for(("lr", "decay"), self.candidates)
        for lr in (self.lr, *self.candidates.get("lr", ())):
            above_zero(lr=lr)
        for decay in (self.decay, *self.candidates.get("decay", ())):
            probability(decay=decay)

    @contextmanager
    def adapting(self, model: CausalLM, rms: Sequence[Tensor] | None) -> Iterator["Adaptation"]:
        """Let the weights move, and put the trained ones back at the end.

        Args:
            model: in evaluation mode.
            rms: see `root_mean_squares`; None for plain SGD.
        """
        parameters = list(model.parameters())
        trained = [parameter.detach().clone() for parameter in parameters]
        try:
            yield Adaptation(self, parameters, trained, rms)
        finally:
            with torch.no_grad():
                for parameter, weight in zip(parameters, trained, strict=True):
                    parameter.copy_(weight)


class Adaptation:
    """The weights on their way; tied ones are one parameter, and stay tied."""

    def __init__(
        self,
        rule: DynamicEvaluation,
        parameters: Sequence[Tensor],
        trained: Sequence[Tensor],
        rms: Sequence[Tensor] | None,
    ) -> None:
        self.lr = rule.lr
        self.parameters = parameters
        self.trained = trained
        self.pulls: Sequence[Tensor] = [weight.new_tensor(rule.decay) for weight in trained]
        self.scales: Sequence[Tensor] = [torch.ones_like(pull) for pull in self.pulls]
        if rms is not None and rule.statistics is not None:
            mean = rule.statistics.mean(rms)
            self.pulls = [(rule.decay * root / mean).clamp_(max=1) for root in rms]
            self.scales = [root + rule.statistics.epsilon for root in rms]

    def step(self, loss: Tensor) -> None:
        """Follow the gradient of `loss`, and fall back."""
        gradients = torch.autograd.grad(loss, self.parameters)
        with torch.no_grad():
            moves = zip(self.parameters, self.trained, gradients, self.pulls, self.scales, strict=True)
            for parameter, trained, gradient, pull, scale in moves:
                parameter.lerp_(trained, pull).addcdiv_(gradient, scale, value=-self.lr)


def differentiable(wanted: bool = True) -> AbstractContextManager:
    """Without cuDNN, whose recurrent layers have no backward pass in evaluation mode (pytorch#5878)."""
    return torch.backends.cudnn.flags(enabled=False) if wanted else nullcontext()


def root_mean_squares(
    model: CausalLM,
    windows: Iterable[Window],
    autocast: Callable[[], AbstractContextManager] = nullcontext,
) -> list[Tensor]:
    """The root of the mean squared gradient of each of a model's parameters over windows of text."""
    parameters = list(model.parameters())
    squares = [torch.zeros_like(parameter) for parameter in parameters]
    device, state, count = squares[0].device, None, 0
    for inputs, targets in windows:
        with differentiable(), autocast():
            nll, state = model.nll(inputs.to(device), targets.to(device), state)
        state = model.core.carry(state)
        for square, gradient in zip(squares, torch.autograd.grad(nll.mean(), parameters), strict=True):
            square.addcmul_(gradient, gradient)
        count += 1
    return [square.div_(count).sqrt_() for square in squares]
