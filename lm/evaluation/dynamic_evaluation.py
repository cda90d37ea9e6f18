"""Dynamic evaluation (Krause et al. 2018): the model is trained on each window of the text after scoring it."""

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
    """How the RMS of the gradients on the training split is estimated and used.

    Args:
        windows: the number of training windows to estimate it from.
        epsilon: ε, added to the RMS.
        normalization: the mean that divides the decay's RMS: "weights", the mean over all weights, or "tensors", the
            mean of the parameter tensors' means, as in Krause's program, so that its λ transfers.
    """

    windows: int
    epsilon: float
    normalization: str = "weights"

    def __post_init__(self) -> None:
        at_least(1, windows=self.windows)
        above_zero(epsilon=self.epsilon)
        one_of(NORMALIZATIONS, normalization=self.normalization)

    def mean(self, rms: Sequence[Tensor]) -> Tensor:
        """The mean RMS that the decays are relative to."""
        if self.normalization == "tensors":
            return torch.stack([each.mean() for each in rms]).mean()
        return torch.cat([each.flatten() for each in rms]).mean()


@dataclass(frozen=True)
class DynamicEvaluation:
    """A gradient step after each window, with a decay towards the trained weights θ₀.

    SGD: θ ← θ - η g + λ (θ₀ - θ).
    RMS: θ ← θ - η g / (RMS + ε) + min(1, λ RMS / mean(RMS)) (θ₀ - θ), the RMS that of the training gradients.

    Args:
        lr: η.
        decay: λ.
        statistics: of the training gradients, for the RMS rule; None for SGD.
        candidates: values of `lr` and `decay` to tune on the validation split.
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
    def adapting(self, model: CausalLM, rms: Sequence[Tensor] | None) -> Iterator[Callable[[Tensor], None]]:
        """Yield the function that takes a step on a window's loss; restore the trained weights on exit.

        Args:
            model: in evaluation mode.
            rms: see `gradient_rms`; None for SGD.
        """
        parameters = list(model.parameters())  # tied weights are one parameter
        trained = [parameter.detach().clone() for parameter in parameters]
        decays = [weight.new_tensor(self.decay) for weight in trained]
        scales = [torch.ones_like(decay) for decay in decays]
        if rms is not None and self.statistics is not None:
            mean = self.statistics.mean(rms)
            decays = [(self.decay * each / mean).clamp_(max=1) for each in rms]
            scales = [each + self.statistics.epsilon for each in rms]

        def step(loss: Tensor) -> None:
            gradients = torch.autograd.grad(loss, parameters)
            with torch.no_grad():
                for weight, start, gradient, decay, scale in zip(
                    parameters, trained, gradients, decays, scales, strict=True
                ):
                    weight.lerp_(start, decay).addcdiv_(gradient, scale, value=-self.lr)

        try:
            yield step
        finally:
            with torch.no_grad():
                for parameter, weight in zip(parameters, trained, strict=True):
                    parameter.copy_(weight)


def differentiable(needed: bool = True) -> AbstractContextManager:
    """Disable cuDNN, whose recurrent layers have no backward pass in evaluation mode (pytorch#5878)."""
    return torch.backends.cudnn.flags(enabled=False) if needed else nullcontext()


def gradient_rms(
    model: CausalLM,
    windows: Iterable[Window],
    autocast: Callable[[], AbstractContextManager] = nullcontext,
) -> list[Tensor]:
    """The root of the mean squared gradient of each parameter over windows of text."""
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
