"""Gradient accumulation over windows of any number and length: each optimizer step counts every token once."""

from lm.data.windows import Window


class AccumulatedWindows:
    """The windows whose gradients are accumulated in one optimizer step.

    Lightning divides each window's loss by `accumulate_grad_batches`, even if the last step of an epoch has fewer
    windows (https://github.com/Lightning-AI/pytorch-lightning/issues/19987), and weights short windows like
    long ones. With `weight` and `scale` the step follows the gradient of the mean loss per token of all its windows.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start the next optimizer step."""
        self.windows = self.steps = self.tokens = self.first = 0

    def weight(self, window: Window) -> float:
        """Add a window; returns the weight of its mean loss, its tokens over those of the step's first window."""
        tokens = window.targets.numel()
        self.first = self.first or tokens
        self.windows += 1
        self.steps += len(window.targets)
        self.tokens += tokens
        return tokens / self.first

    def scale(self, divisor: int) -> float:
        """The factor for the sum of the weighted gradients, each divided by `divisor`; usually 1."""
        return divisor * self.first / self.tokens

    @property
    def mean_length(self) -> float:
        """The mean number of time steps in a window."""
        return self.steps / self.windows
