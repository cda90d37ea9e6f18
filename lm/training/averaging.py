"""Averages of the weights over training steps, which everything but training uses in place of the trained ones.

EMA, SWA and NT-ASGD are one callback; they differ in when the average begins and in how much each new weight counts.
"""

from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from lm.config.checks import at_least, probability
from lm.errors import UserError

KEY = "averaging"  # the key of our entry in a checkpoint


class WeightAveraging(Callback):
    """The mean of the weights after optimizer steps, from the step on that a subclass chooses.

    Validation, samples, checkpoints and tests are of the average. From a validation on until the next training step the
    model holds the average and `others` the trained weights, else the reverse: they exchange their contents. The state
    in a checkpoint is complete on every rank, since all ranks have the same weights.

    Lightning 2.6's callback of this name averages the same, but validates the initial weights until the average begins,
    restores the trained ones before samples are drawn, and waits for the GPU in every step.

    Args:
        every_n_steps: update the average after this many optimizer steps; None: at the end of each epoch.
    """

    def __init__(self, every_n_steps: int | None) -> None:
        at_least(1, every_n_steps=every_n_steps)
        self.every_n_steps = every_n_steps
        self.has_begun = False
        self.count = 0  # of updates
        self.others: list[Tensor] = []  # a tensor for each parameter; none before the first average
        self.is_averaged = False  # whether the model holds the average
        self.step = 0  # the last optimizer step

    def current_decay(self) -> float:
        """The factor of the average so far, one minus that of the next weights: all count alike."""
        return self.count / (self.count + 1)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if trainer.precision in ("16-true", "bf16-true"):
            raise UserError(
                f"trainer.precision={trainer.precision} given, which rounds away what a step adds to an average: "
                "leave averaging out, or use bf16-mixed."
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.step = trainer.global_step
        self.others = [tensor.to(pl_module.device) for tensor in self.others]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._hold(pl_module, averaged=False)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.step:
            return  # gradients are accumulated
        self.step = trainer.global_step
        ends_epoch = batch_idx + 1 == trainer.num_training_batches
        is_due = self.step % self.every_n_steps == 0 if self.every_n_steps else ends_epoch
        if self.has_begun and is_due:
            self._average(pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._hold(pl_module, averaged=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._hold(pl_module, averaged=True)
        if not self.has_begun:
            rank_zero_warn("Averaging had not begun when training ended: these are the weights of the last step.")
        elif self.count < 2 and self.every_n_steps != 1:
            rank_zero_warn(f"The average covers {self.count} update(s): lower averaging.every_n_steps for more.")

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Store the average as the model's weights and, unless for the best model, the trained ones beside them."""
        weights = checkpoint["state_dict"]
        others = dict(zip(pl_module.parameters(), self.others, strict=False))
        named = pl_module.named_parameters(remove_duplicate=False)  # tied weights have two names
        exchanged = weights | {name: others[parameter] for name, parameter in named if others}
        average, trained = (weights, exchanged) if self.is_averaged else (exchanged, weights)
        checkpoint["state_dict"] = average
        if not trainer.validating:
            entry = {"has_begun": self.has_begun, "count": self.count}
            checkpoint[KEY] = entry | ({"trained": trained} if self.count else {})

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn != TrainerFn.FITTING:
            return
        self.has_begun, self.count = checkpoint[KEY]["has_begun"], checkpoint[KEY]["count"]
        if self.count:
            self.others = [weight.detach().clone() for weight in pl_module.parameters()]  # Lightning loads state_dict
            pl_module.load_state_dict(checkpoint[KEY]["trained"])

    @torch.no_grad()
    def _average(self, module: LightningModule) -> None:
        weights: list[Tensor] = list(module.parameters())
        if self.count:
            torch._foreach_lerp_(self.others, weights, 1 - self.current_decay())
        else:
            self.others = [weight.clone() for weight in weights]
        self.count += 1

    @torch.no_grad()
    def _hold(self, module: LightningModule, averaged: bool) -> None:
        """Have the model hold the average, if there is one, or the trained weights."""
        if averaged == self.is_averaged or not self.others:
            return
        for weight, other in zip(module.parameters(), self.others, strict=True):
            held = weight.clone()
            weight.copy_(other)
            other.copy_(held)
        self.is_averaged = averaged


class EMA(WeightAveraging):
    """The exponential moving average of the weights (Tarvainen and Valpola 2017).

    The decay after `n` updates is at most (1 + n) / (10 + n), as in TensorFlow, so that the first weights do
    not weigh on a short run.

    Args:
        decay: the weight of the old average in an update; the effective window is 1 / (1 - decay) updates.
        every_n_steps: see `WeightAveraging`.
    """

    def __init__(self, decay: float, every_n_steps: int | None) -> None:
        super().__init__(every_n_steps)
        probability(decay=decay)
        self.decay = decay
        self.has_begun = True

    def current_decay(self) -> float:
        return min(self.decay, (1 + self.count) / (10 + self.count))


class SWA(WeightAveraging):
    """Stochastic weight averaging: the mean over the last part of training (Izmailov et al. 2018).

    Args:
        start_ratio: the fraction of all steps after which the average begins; once begun it goes on in longer runs.
        every_n_steps: see `WeightAveraging`.
    """

    def __init__(self, start_ratio: float, every_n_steps: int | None) -> None:
        super().__init__(every_n_steps)
        probability(start_ratio=start_ratio)
        self.start_ratio = start_ratio
        self.total_steps = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self.total_steps = trainer.estimated_stepping_batches

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        self.has_begun = self.has_begun or trainer.global_step >= self.start_ratio * self.total_steps


class NTASGD(WeightAveraging):
    """Non-monotonically triggered averaged SGD: the mean since validation stopped improving (Merity et al. 2018).

    The trigger is a validation loss that is worse than the best of all but the last `non_monotone_interval` ones, as
    in the authors' code, awd-lstm-lm. The mean begins with the weights of the first step after it.

    Args:
        non_monotone_interval: n, validations that are not compared with.
        every_n_steps: see `WeightAveraging`.
    """

    def __init__(self, non_monotone_interval: int, every_n_steps: int | None) -> None:
        super().__init__(every_n_steps)
        at_least(0, non_monotone_interval=non_monotone_interval)
        self.interval = non_monotone_interval
        self.losses: list[float] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if stage == "fit" and trainer.limit_val_batches == 0:
            raise UserError(
                "trainer.limit_val_batches=0 given, but the validation loss triggers the averaging of nt_asgd: "
                "validate, or choose averaging=ema or averaging=swa."
            )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        loss = trainer.callback_metrics["val/loss"].item()
        compared = self.losses[: max(0, len(self.losses) - self.interval)]
        self.has_begun = self.has_begun or loss > min(compared, default=float("inf"))
        self.losses.append(loss)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if KEY in checkpoint:
            checkpoint[KEY]["losses"] = self.losses

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(trainer, pl_module, checkpoint)
        if trainer.state.fn == TrainerFn.FITTING:
            self.losses = checkpoint[KEY]["losses"]
