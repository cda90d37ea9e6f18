"""A checkpoint from which a run that was killed or has ended resumes with bitwise identical results."""

import contextlib
import math
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from lm.config.checks import above_zero, at_least
from lm.config.launch import is_requeued_by_us
from lm.data import Windows
from lm.errors import UserError
from lm.models import State, map_state
from lm.training.distributed import any_rank, gathered, requeue
from lm.training.lightning_internals import correct_resumed_counters, is_epoch_done, rewind_to_step_start
from lm.training.module import LitLanguageModel
from lm.training.resume.graceful_stop import GracefulStop, OnSignal
from lm.training.resume.rng_state import random_state, set_random_state
from lm.training.resume.validation import KEY


class ResumableCheckpoint(OnSignal):
    """Writes `path` before a training step: at the start of each epoch, at intervals within, and after the last one.

    SIGTERM ends the program with exit code 143, SIGHUP with 129, and SIGUSR1 in a SLURM job, which is then
    requeued, with 143. Whatever else ends training, the last state is saved as it would be before the next step, so
    that a longer run can resume it.

    Before a step all of the previous one is complete: optimizer, schedule, validation and its callbacks. Lightning may
    save in the middle of these, and on resuming repeats or skips some of them
    (https://github.com/Lightning-AI/pytorch-lightning/issues/19815).

    Args:
        path: of the checkpoint, overwritten each time.
        every_n_steps: optimizer steps between two checkpoints within an epoch; None for no such rule.
        every_n_minutes: minutes between two; None for no such rule.
    """

    def __init__(self, path: str, every_n_steps: int | None = None, every_n_minutes: float | None = None) -> None:
        super().__init__()
        at_least(1, every_n_steps=every_n_steps)
        if every_n_minutes is not None:
            above_zero(every_n_minutes=every_n_minutes)
        self.path = Path(path)
        self.every_n_steps = every_n_steps or math.inf
        self.every_n_minutes = every_n_minutes or math.inf
        self.saved_step = -1
        self.saved_at = time.monotonic()
        self.is_saving = False
        self.stored: dict[str, Any] | None = None  # our entry in the resumed checkpoint, until the first step
        self.text: dict[str, int] = {}  # the checksums of the corpus

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        later = trainer.callbacks[trainer.callbacks.index(self) :]  # type: ignore[attr-defined]  # Lightning sets it
        if any(isinstance(callback, GracefulStop) for callback in later):
            raise UserError(
                "callbacks.graceful_stop stands after callbacks.resumable_checkpoint, but a run must be asked to stop "
                "before its state is saved: put graceful_stop first."
            )
        if stage == "fit":
            self.text = trainer.datamodule.corpus.checksums()  # type: ignore[attr-defined]  # Lightning sets it

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Handle termination signals: Lightning would save nothing, or in the middle of a step."""
        self.signals = (signal.SIGTERM, signal.SIGUSR1) if is_requeued_by_us() else (signal.SIGTERM,)
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup ignores it
            self.signals += (signal.SIGHUP,)
        super().on_train_start(trainer, pl_module)
        self.saved_step = trainer.global_step  # the initial state need not be saved again
        self.saved_at = time.monotonic()
        if self.stored is not None:
            # Lightning would do this, had it not made the loader ready before it read the checkpoint
            assert isinstance(trainer.train_dataloader, Windows)
            trainer.train_dataloader.load_state_dict(self.stored["windows"])

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        assert isinstance(pl_module, LitLanguageModel)
        if self.stored is not None:
            _restore_rank(trainer, pl_module, self.stored["processes"])
            correct_resumed_counters(trainer)
            self.stored = None
        if batch_idx % trainer.accumulate_grad_batches:
            return  # partially accumulated gradients are not saved
        if any_rank(trainer, self.asked or self._is_due(trainer, batch_idx)):
            self._save(trainer)
            self._end_if_asked(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not is_epoch_done(trainer):  # the run ends here; the last weights are validated only after this
            self._save(trainer)
            self._end_if_asked(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, LitLanguageModel)
        if is_epoch_done(trainer):
            pl_module.on_train_epoch_start()  # where a longer run resumes
            self._save(trainer)
        self.restore_handlers()
        self._end_if_asked(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add each rank's state that Lightning does not save; only to this callback's checkpoints."""
        if not self.is_saving:
            return
        assert isinstance(pl_module, LitLanguageModel)
        state = pl_module.train_state
        own = {
            "state": None if state is None else map_state(Tensor.cpu, state),
            "random": random_state(),
            "nats": pl_module.train_loss.nats.cpu(),
            "tokens": pl_module.train_loss.tokens.cpu(),
            "penalty": pl_module.train_penalty.nats.cpu(),
        }
        processes = gathered(trainer, own)
        windows = rewind_to_step_start(trainer, checkpoint)
        checkpoint[KEY] = {"processes": processes, "windows": windows, "text": self.text}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            self.stored = checkpoint[KEY]

    def _is_due(self, trainer: Trainer, batch_idx: int) -> bool:
        steps = trainer.global_step - self.saved_step
        minutes = (time.monotonic() - self.saved_at) / 60
        return steps > 0 and (batch_idx == 0 or steps >= self.every_n_steps or minutes >= self.every_n_minutes)

    def _save(self, trainer: Trainer) -> None:
        if not all(parameter.isfinite().all() for parameter in trainer.lightning_module.parameters()):
            return  # the next step reports it; the last good checkpoint is kept
        self.is_saving = True
        trainer.save_checkpoint(self.path)
        self.is_saving = False
        self.saved_step = trainer.global_step
        self.saved_at = time.monotonic()

    def _end_if_asked(self, trainer: Trainer) -> None:
        if any_rank(trainer, self.asked):  # in the last step, or while validating
            self._end(trainer)

    def _end(self, trainer: Trainer) -> None:
        requeued = any_rank(trainer, signal.SIGUSR1 in self.asked)
        if trainer.is_global_zero:
            with contextlib.suppress(OSError):  # after SIGHUP the terminal may be gone
                print(f"Terminated. Resume with ckpt={self.path}", file=sys.stderr, flush=True)
            if requeued:
                requeue()
        hung_up = any_rank(trainer, self.asked == {signal.SIGHUP})
        sys.exit(128 + (signal.SIGHUP if hung_up else signal.SIGTERM))  # as shells and schedulers expect


def _restore_rank(trainer: Trainer, module: LitLanguageModel, processes: list[dict[str, Any]]) -> None:
    """Restore this rank's part, or its streams from all parts if the number of ranks has changed."""
    rank = trainer.global_rank
    states = [process["state"] for process in processes]
    if states[0] is not None:
        if len(states) != trainer.world_size:
            states = _divide(states, trainer.world_size, module.model.core.batch_dim)
        module.train_state = map_state(lambda tensor: tensor.to(module.device), states[rank])
    if rank < len(processes):
        set_random_state(processes[rank]["random"])
    else:
        torch.manual_seed(processes[0]["random"]["torch"].sum().item() + rank)
    if rank == 0:
        for process in processes:
            for metric, nats in ((module.train_loss, process["nats"]), (module.train_penalty, process["penalty"])):
                metric.nats = metric.nats + nats.to(module.device)
                metric.tokens += process["tokens"].to(module.device)


def _divide(states: list[State], parts: int, dim: int) -> list[State]:
    """The streams of all `states`, divided into as many `parts` as there are ranks now."""
    whole = map_state(lambda *tensors: torch.cat(tensors, dim), *states)
    return [map_state(lambda tensor, part=part: tensor.tensor_split(parts, dim)[part], whole) for part in range(parts)]
