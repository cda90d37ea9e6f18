"""The LightningModule: training step, logging and optimizer, independent of the architecture."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities.types import LRSchedulerConfigType, OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer

from lm.checkpoints import checkpoint
from lm.data.vocabulary import Vocabulary
from lm.data.windows import Window, Windows
from lm.errors import UserError
from lm.models import CausalLM, State
from lm.training.accumulation import AccumulatedWindows
from lm.training.finite_loss import FiniteLoss
from lm.training.lightning_internals import is_epoch_done, stop_after_this_step, validate_last_weights
from lm.training.metrics import TextLoss
from lm.training.optimizers import ModelParameters
from lm.training.regularizers import Regularizer


@dataclass
class Interval:
    """The time since the last log, validation or start of an epoch, and the number of batches and tokens trained on."""

    start: float = field(default_factory=time.perf_counter)
    batches: int = 0
    tokens: int = 0


class LitLanguageModel(LightningModule):
    """Trains and evaluates a CausalLM on BPTT windows, carrying the state from one to the next.

    Args:
        model: the model to train.
        vocabulary: the model's, to be stored in the checkpoint.
        config: of the whole run, in primitive types, to be stored in the checkpoint.
        optimizer: makes the optimizer, given the model's parameters; None for evaluation only.
        scheduler: makes an lr_scheduler_config, given the optimizer and `total_steps`; see `lm.training.schedules`.
        regularizers: by name; see `lm.training.regularizers`.
    """

    def __init__(
        self,
        model: CausalLM,
        vocabulary: Vocabulary,
        config: dict[str, Any],
        optimizer: Callable[[ModelParameters], Optimizer] | None = None,
        scheduler: Callable[..., LRSchedulerConfigType] | None = None,
        regularizers: Mapping[str, Regularizer] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.vocabulary = vocabulary
        self.config = config
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.regularizers = dict(regularizers or {})
        self.train_loss = TextLoss()
        self.train_penalty = TextLoss()
        self.eval_loss = TextLoss()
        # Validation may run within an epoch, and under inference mode, whose tensors must not enter autograd:
        # training and validation keep separate states.
        self.train_state: State | None = None
        self.eval_state: State | None = None
        self.accumulated = AccumulatedWindows()
        self.finite_loss = FiniteLoss()
        self.interval = Interval()
        self.is_logging_step = False
        self.validated_step: int | None = None  # the step of the last validation

    def on_fit_start(self) -> None:
        if self.trainer.world_size > 1:  # each rank draws its own dropout masks
            torch.manual_seed(torch.initial_seed() + self.global_rank)

    def on_train_start(self) -> None:
        if self.device.type == "cuda" and self.trainer.world_size == 1:  # several ranks wait in every step anyway
            self.finite_loss.defer(self.trainer.optimizers[0])
        self.accumulated.reset()
        self.interval = Interval()  # `on_train_epoch_start` is not called when a run resumes within an epoch

    def on_train_epoch_start(self) -> None:
        """Reset the hidden state."""
        self.train_state = None
        self._start_interval()

    def training_step(self, window: Window, batch_idx: int) -> Tensor:
        """The mean loss in nats of a window's targets, plus the penalties."""
        outputs, state = self.model.training_nll(window.inputs, window.targets, self.train_state)
        self.train_state = self.model.core.carry(state)
        self.train_loss.update(outputs.nll.detach(), window.targets)
        loss = outputs.nll.mean()
        if self.regularizers:
            penalty = torch.stack([each(outputs, self.model) for each in self.regularizers.values()]).sum()
            self.train_penalty.update(penalty.detach() * window.targets.numel(), window.targets)
            loss = loss + penalty
        self.interval.batches += 1
        self.interval.tokens += window.targets.numel() * self.trainer.world_size
        self.finite_loss.update(loss, self.global_step + 1, self._lr())
        self.is_logging_step = self._ends_an_interval(batch_idx)
        if self.is_logging_step:
            self.finite_loss.check()  # and wait for the GPU, whose time is to be logged
            self._log_interval()
        return loss * self.accumulated.weight(window)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Average the accumulated gradient over its tokens, log its norm before clipping, scale the learning rate."""
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        scale = self.accumulated.scale(self.trainer.accumulate_grad_batches)
        if scale != 1:
            torch._foreach_mul_(gradients, scale)
        if self.is_logging_step:
            self.log("train/grad_norm", nn.utils.get_total_norm(gradients))
        windows = self.trainer.train_dataloader
        if isinstance(windows, Windows) and windows.jitter:
            # as in AWD-LSTM, so that tokens of short windows do not get larger updates than those of long ones
            for group in optimizer.param_groups:
                group["lr"] *= self.accumulated.mean_length / windows.bptt

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Restore the schedule's learning rate afterwards, undoing the scaling by window length."""
        rates = [group["lr"] for group in optimizer.param_groups]
        try:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        finally:
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate
            self.accumulated.reset()

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip a fused optimizer's gradients under bf16 autocast, too: only fp16's scaler is incompatible with it.

        Lightning refuses both: https://github.com/Lightning-AI/pytorch-lightning/issues/21435
        """
        plugin = self.trainer.precision_plugin
        if gradient_clip_val and getattr(plugin, "scaler", None) is None:
            clip = plugin.clip_grad_by_value if gradient_clip_algorithm == "value" else plugin.clip_grad_by_norm
            clip(optimizer, gradient_clip_val)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_train_batch_end(self, *_: Any) -> None:
        stop_after_this_step(self.trainer)

    def on_train_epoch_end(self) -> None:
        if not is_epoch_done(self.trainer):  # training ends here, and EarlyStopping checks the last weights next
            self._validate_last_weights()

    def on_train_end(self) -> None:
        self.finite_loss.check()
        self._validate_last_weights()

    def on_validation_epoch_start(self) -> None:
        """Reset the hidden state."""
        self.finite_loss.check()
        self.eval_state = None
        self.eval_loss.reset()

    def validation_step(self, window: Window, batch_idx: int) -> None:
        nll, state = self.model.nll(window.inputs, window.targets, self.eval_state)
        self.eval_state = self.model.core.carry(state)
        self.eval_loss.update(nll, window.targets)

    def on_validation_epoch_end(self) -> None:
        self._log_split("val")
        if not self.trainer.sanity_checking:
            self.validated_step = self.global_step

    def on_validation_end(self) -> None:
        self.interval = Interval()
        stop_after_this_step(self.trainer)

    def on_test_epoch_start(self) -> None:
        self.on_validation_epoch_start()

    def test_step(self, window: Window, batch_idx: int) -> None:
        self.validation_step(window, batch_idx)

    def on_test_epoch_end(self) -> None:
        self._log_split("test")

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        assert self.make_optimizer is not None and self.make_scheduler is not None, "built for evaluation only"
        optimizer = self.make_optimizer(ModelParameters(self.model))
        steps = self.trainer.estimated_stepping_batches
        if steps == float("inf"):
            raise UserError("trainer.max_epochs=-1 given without an end: set trainer.max_epochs or trainer.max_steps.")
        scheduler = self.make_scheduler(optimizer, total_steps=int(steps))
        if "monitor" in scheduler:  # the monitored value changes only at validation
            scheduler["frequency"] = self.trainer.check_val_every_n_epoch or 1
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    def on_save_checkpoint(self, stored: dict[str, Any]) -> None:
        self.finite_loss.check()
        stored[checkpoint.KEY] = checkpoint.entry(self.config, self.vocabulary)

    def _validate_last_weights(self) -> None:
        if self.validated_step != self.global_step:
            validate_last_weights(self.trainer)

    def _lr(self) -> float:
        """The learning rate of the current step."""
        return self.trainer.optimizers[0].param_groups[0]["lr"]

    def _ends_an_interval(self, batch_idx: int) -> bool:
        """Whether this is the last window of an optimizer step that Lightning logs."""
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]  # its logger connector sets it
        batches = batch_idx + 1
        steps_now = batches % self.trainer.accumulate_grad_batches == 0 or batches == self.trainer.num_training_batches
        return bool(every) and steps_now and (self.trainer.global_step + 1) % every == 0

    def _log_interval(self) -> None:
        result = self.train_loss.compute()
        seconds = time.perf_counter() - self.interval.start
        # without `prog_bar`, for which Lightning reads the values in every step and so waits for a GPU
        self.log_dict({"train/loss": result["loss"], "train/ppl": result["ppl"]})
        if self.regularizers:
            self.log("train/penalty", self.train_penalty.compute()["loss"])
        self.log("train/lr", self._lr())
        self.log("speed/tokens_per_second", self.interval.tokens / seconds)
        self.log("speed/ms_per_batch", 1000 * seconds / self.interval.batches)
        self._start_interval()

    def _start_interval(self) -> None:
        self.train_loss.reset()
        self.train_penalty.reset()
        self.interval = Interval()

    def _log_split(self, split: str) -> None:
        result = self.eval_loss.compute()
        self.log_dict({f"{split}/{name}": value.to(torch.float32) for name, value in result.items()})
