"""A checkpoint from which a run that was killed, or has ended, goes on as if nothing had happened."""

import contextlib
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
from lm.models import map_state
from lm.training.distributed import requeue
from lm.training.end_of_training import is_epoch_done
from lm.training.module import LitLanguageModel
from lm.training.resume.choose import KEY
from lm.training.resume.on_signal import OnSignal, any_rank
from lm.training.resume.rng_state import random_state, set_random_state


class ResumableCheckpoint(OnSignal):
    """Writes `path` before a training step: at the start of each epoch, every so often within, and after the last one.

    SIGTERM ends the program with exit code 143, SIGHUP with 129, and SIGUSR1 in a SLURM job, which is then queued
    again, with 143. Whatever else ends training, the last state is saved as it would be before the next step, so that a
    longer run can take it.

    Before a step all that came before it is done: the optimizer, the schedule, validation and its callbacks. Lightning
    can save in the middle of these, and then does some of them twice, or never.

    Args:
        path: of the checkpoint, written anew each time.
        every_n_steps: optimizer steps from one to the next; None for no such rule.
        every_n_minutes: minutes from one to the next; None for no such rule.
    """

    def __init__(self, path: str, every_n_steps: int | None = None, every_n_minutes: float | None = None) -> None:
        super().__init__()
        at_least(1, every_n_steps=every_n_steps)
        if every_n_minutes is not None:
            above_zero(every_n_minutes=every_n_minutes)
        self.path = Path(path)
        self.every_n_steps = every_n_steps
        self.every_n_minutes = every_n_minutes
        self.saved_step = -1
        self.saved_at = time.monotonic()
        self.is_saving = False
        self.stored: dict[str, Any] | None = None
        self.text: dict[str, int] = {}  # the checksums of what it is trained on

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Note which text this is, once."""
        if stage == "fit":
            self.text = trainer.datamodule.corpus.checksums()  # type: ignore[attr-defined]  # Lightning sets it

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over the signals to end: Lightning's ways of ending save nothing, or in the midst of a step."""
        self.signals = (signal.SIGTERM, signal.SIGUSR1) if is_requeued_by_us() else (signal.SIGTERM,)
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup ignores it
            self.signals += (signal.SIGHUP,)
        super().on_train_start(trainer, pl_module)
        self.saved_step = trainer.global_step  # what it starts from is there already
        self.saved_at = time.monotonic()
        if self.stored is not None:
            # Lightning would do this, had it not made the loader ready before it read the checkpoint
            _windows(trainer).load_state_dict(self.stored["windows"])

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Save if it is time; the first step of a resumed run gets back what Lightning did not keep."""
        assert isinstance(pl_module, LitLanguageModel)
        if self.stored is not None:
            self._restore(trainer, pl_module, self.stored)
            self.stored = None
        if batch_idx % trainer.accumulate_grad_batches:
            return  # half a step's gradients are in no checkpoint
        terminated = any_rank(trainer, self.asked)
        if terminated or any_rank(trainer, self._is_due(trainer, batch_idx)):
            self._save(trainer)
        if terminated:
            self._end(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the state of a run that ends within an epoch, before anyone looks at the end of an epoch."""
        if not is_epoch_done(trainer):
            self._save_last(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the state of a run that ends with an epoch, and give the signals back."""
        assert isinstance(pl_module, LitLanguageModel)
        if is_epoch_done(trainer):
            pl_module.train_state = None  # as the start of an epoch has it
            pl_module.train_loss.reset()
            self._save_last(trainer)
        super().on_train_end(trainer, pl_module)
        self._end_if_asked(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the signals back, and save nothing: something is wrong."""
        super().on_train_end(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add what every process needs besides Lightning's own; only to this callback's checkpoints."""
        if not self.is_saving:
            return
        assert isinstance(pl_module, LitLanguageModel)
        state = pl_module.train_state
        own = {
            "state": None if state is None else map_state(Tensor.cpu, state),
            "random": random_state(),
            "nats": pl_module.train_loss.nats.cpu(),
            "tokens": pl_module.train_loss.tokens.cpu(),
        }
        processes = [own]
        if trainer.world_size > 1:
            processes = [{}] * trainer.world_size
            torch.distributed.all_gather_object(processes, own)
        windows = _stand_before_the_next_step(trainer, checkpoint)
        checkpoint[KEY] = {"processes": processes, "windows": windows, "text": self.text}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep what was added for the first step."""
        if trainer.state.fn == TrainerFn.FITTING:
            self.stored = checkpoint[KEY]

    def _is_due(self, trainer: Trainer, batch_idx: int) -> bool:
        steps = trainer.global_step - self.saved_step
        if steps == 0:
            return False
        if batch_idx == 0 or (self.every_n_steps is not None and steps >= self.every_n_steps):
            return True
        return self.every_n_minutes is not None and time.monotonic() - self.saved_at >= 60 * self.every_n_minutes

    def _save(self, trainer: Trainer) -> None:
        if not all(parameter.isfinite().all() for parameter in trainer.lightning_module.parameters()):
            return  # the step that comes will say so; the last good checkpoint stays
        self.is_saving = True
        trainer.save_checkpoint(self.path)
        self.is_saving = False
        self.saved_step = trainer.global_step
        self.saved_at = time.monotonic()

    def _save_last(self, trainer: Trainer) -> None:
        """Save what a longer run resumes from, before the last weights are validated, which it would not do."""
        self._save(trainer)
        self._end_if_asked(trainer)

    def _end_if_asked(self, trainer: Trainer) -> None:
        if any_rank(trainer, self.asked):  # in the last step, or while validating
            self._end(trainer)

    def _end(self, trainer: Trainer) -> None:
        requeued = any_rank(trainer, signal.SIGUSR1 in self.asked)
        if trainer.is_global_zero:
            with contextlib.suppress(OSError):  # after SIGHUP the terminal may be gone
                print(f"Terminated. Go on with ckpt={self.path}", file=sys.stderr, flush=True)
            if requeued:
                requeue()
        hung_up = any_rank(trainer, self.asked == {signal.SIGHUP})
        sys.exit(128 + (signal.SIGHUP if hung_up else signal.SIGTERM))  # what a shell, and a scheduler, takes for it

    def _restore(self, trainer: Trainer, module: LitLanguageModel, stored: dict[str, Any]) -> None:
        """Each process takes its own part, or, where their number has changed, its own columns of all parts."""
        processes, rank = stored["processes"], trainer.global_rank
        states = [process["state"] for process in processes]
        if states[0] is not None:
            dim = module.model.core.batch_dim
            if len(states) != trainer.world_size:
                columns = map_state(lambda *parts: torch.cat(parts, dim), *states)
                states = [
                    map_state(lambda whole, part=part: whole.tensor_split(trainer.world_size, dim)[part], columns)
                    for part in range(trainer.world_size)
                ]
            module.train_state = map_state(lambda tensor: tensor.to(module.device), states[rank])
        if rank < len(processes):
            set_random_state(processes[rank]["random"])
        else:
            torch.manual_seed(processes[0]["random"]["torch"].sum().item() + rank)
        if rank == 0:
            for process in processes:
                module.train_loss.nats += process["nats"].to(module.device)
                module.train_loss.tokens += process["tokens"].to(module.device)
        # Lightning counts one too many when it goes on from between two steps; loggers and val_check_interval use these
        epoch_loop = trainer.fit_loop.epoch_loop
        epoch_loop._batches_that_stepped = trainer.global_step
        epoch_loop.batch_progress.total.ready = epoch_loop.batch_progress.total.completed + 1
        # and it would not ask a plateau schedule at the end of this epoch, taking itself for restarting until then
        trainer.fit_loop._restarting = False


def _stand_before_the_next_step(trainer: Trainer, checkpoint: dict[str, Any]) -> dict[str, int]:
    """Let Lightning's counters in `checkpoint` stand where the next step's `on_train_batch_start` finds them.

    After the last step they count an epoch that has only begun as done, and differ by what has ended the run.

    Returns:
        Where the next step stands in the text.
    """
    loops = checkpoint["loops"]["fit_loop"]
    epochs, windows = loops["epoch_progress"], loops["epoch_loop.batch_progress"]
    if is_epoch_done(trainer):
        windows["current"]["completed"] = 0
    else:
        epochs["current"]["completed"] = epochs["total"]["completed"] = epochs["current"]["ready"] - 1
    for counts in (epochs, windows):
        for each in counts["current"], counts["total"]:
            each["started"] = each["processed"] = each["completed"]
            each["ready"] = each["completed"] + 1
    for each in epochs["current"], epochs["total"]:
        each["started"] = each["ready"]
    windows["is_last_batch"] = False
    checkpoint["epoch"] = epochs["current"]["completed"]
    return {"epoch": checkpoint["epoch"], "position": windows["current"]["completed"]}


def _windows(trainer: Trainer) -> Windows:
    assert isinstance(trainer.train_dataloader, Windows)
    return trainer.train_dataloader
