"""Muon for the matrices of the core and AdamW for everything else, as one optimizer."""

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

from lm.errors import UserError
from lm.training.optimizers import ModelParameters


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
        scale = "match_rms_adamw"
        muon = torch.optim.Muon(hidden, lr, weight_decay, momentum, nesterov, ns_steps=ns_steps, adjust_lr_fn=scale)
        adamw = torch.optim.AdamW(others, lr, betas, eps, weight_decay, fused=fused)
        self.parts = muon, adamw
        # schedules that cycle the momentum find it under one name in all groups
        muon.param_groups[0]["betas"] = (momentum,)
        super().__init__([*muon.param_groups, *adamw.param_groups], {"lr": lr, "betas": betas})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Step both optimizers with this one's groups and state, which `load_state_dict` may have replaced."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        first, *others = self.param_groups
        first["momentum"] = first["betas"][0]
        for part, groups in zip(self.parts, ([first], others), strict=True):
            part.param_groups, part.state = groups, self.state
            part.step()
        return loss
