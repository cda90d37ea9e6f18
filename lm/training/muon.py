"""Muon for the matrices of the core and AdamW for everything else, as one optimizer."""

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

from lm.errors import UserError
from lm.ops import fast_precision
from lm.training.optimizers import ModelParameters

# of Jordan et al.'s quintic: the steepest at zero that still keeps the singular values around 1
COEFFICIENTS = 3.4445, -4.7750, 2.0315


def orthogonalized(matrix: torch.Tensor, steps: int, dtype: torch.dtype) -> torch.Tensor:
    """A matrix `[rows, columns]` with its singular values brought near 1 (0.7 to 1.2) by Newton-Schulz iterations.

    Args:
        matrix: any matrix; a zero one stays zero.
        steps: the number of iterations, at least one (Jordan et al. 2024 take five).
        dtype: the precision of the products and of the result; bfloat16 is enough.
    """
    is_tall = matrix.size(0) > matrix.size(1)
    x = matrix.to(dtype)
    x = x.T if is_tall else x
    x = x / x.norm().clamp(min=1e-7)  # singular values of at most 1
    saves_work = 2 * x.size(0) <= x.size(1) and dtype == torch.float32
    x = gram_newton_schulz(x, steps) if saves_work else newton_schulz(x, steps)
    return x.T if is_tall else x


def newton_schulz(x: torch.Tensor, steps: int) -> torch.Tensor:
    """X `[n, m]` becomes P X in each step, with P = aI + bG + cG² and G = X Xᵀ."""
    a, b, c = COEFFICIENTS
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def gram_newton_schulz(x: torch.Tensor, steps: int) -> torch.Tensor:
    """The same iterations on G `[n, n]`, which becomes P G P; the product of all P multiplies X once, at the end.

    For m = 2n five steps take 0.84 of the operations, for m = 4n 0.56, for m = 8n 0.39. Only for fp32: rounding errors
    of G grow with every step (https://dao-lab.ai/blog/2026/gram-newton-schulz restarts from X in half precision).
    """
    a, b, c = COEFFICIENTS

    def polynomial(gram: torch.Tensor) -> torch.Tensor:
        p = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        p.diagonal().add_(a)
        return p

    gram = x @ x.T
    product = p = polynomial(gram)
    for _ in range(steps - 1):
        gram = p @ gram @ p
        p = polynomial(gram)
        product = p @ product
    return product @ x


class Muon(Optimizer):
    """Muon (Jordan et al. 2024): a hidden matrix moves by its momentum, orthogonalised by Newton-Schulz iterations.

    Embeddings, heads, biases and norms are trained by AdamW. A matrix's update is scaled by 0.2 √max(rows, columns),
    which gives it the usual RMS of AdamW's updates, so that both can share a learning rate (Liu et al. 2025). The
    stacked matrices of several gates, or of queries, keys and values, are orthogonalised as one matrix.

    Args:
        params: the model's parameters.
        lr: the learning rate of both.
        momentum: Muon's.
        nesterov: whether it is Nesterov momentum.
        ns_steps: the number of Newton-Schulz iterations.
        weight_decay: of both, decoupled.
        decay: what it applies to; see `lm.training.optimizers.with_decay`.
        betas: AdamW's.
        eps: AdamW's.
        fused: AdamW's.
    """

    def __init__(
        self,
        params: ModelParameters,
        lr: float = 1e-3,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        weight_decay: float = 0.01,
        decay: str = "all",
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        fused: bool | None = None,
    ) -> None:
        hidden = dict.fromkeys(params.hidden_matrices)
        if not hidden:
            raise UserError("optimizer=muon given, but the model's core has no matrices: choose optimizer=adamw.")
        others = [
            {**group, "params": [each for each in group["params"] if each not in hidden]}
            for group in params.groups(decay)
        ]
        betas = betas[0], betas[1]  # it is a list in a config
        self.adamw = torch.optim.AdamW(others, lr, betas, eps, weight_decay, fused=fused)
        matrices = {
            "params": [*hidden],
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "ns_steps": ns_steps,
            "betas": (momentum,),  # where schedules that cycle the momentum look for it
        }
        super().__init__([matrices, *self.adamw.param_groups], {"lr": lr, "betas": betas})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Step both with this optimizer's groups and state, which `load_state_dict` may have replaced."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        matrices, *others = self.param_groups
        # torch.optim.Muon's products are always in bfloat16, thirty times as slow on a CPU with AVX2 alone
        native = fast_precision(matrices["params"][0].device.type) == "bf16-mixed"
        for matrix in matrices["params"]:
            if matrix.grad is not None:
                self._update(matrix, matrix.grad, matrices, torch.bfloat16 if native else torch.float32)
        self.adamw.param_groups, self.adamw.state = others, self.state
        self.adamw.step()
        return loss

    def _update(self, matrix: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any], dtype: torch.dtype) -> None:
        state, lr, momentum = self.state[matrix], group["lr"], group["betas"][0]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        mean = state["momentum_buffer"]
        mean.lerp_(gradient, 1 - momentum)
        direction = gradient.lerp(mean, momentum) if group["nesterov"] else mean
        direction = orthogonalized(direction, group["ns_steps"], dtype)
        matrix.mul_(1 - lr * group["weight_decay"])
        matrix.add_(direction, alpha=-lr * 0.2 * max(matrix.shape) ** 0.5)
