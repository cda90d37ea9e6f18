"""When a run loses one of its ranks, the others say which."""

import os
import re
import socket
from typing import NamedTuple

import psutil
import torch
from lightning import Callback, LightningModule, Trainer

from lm.errors import UserError

NOT_RUNNING = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD, psutil.STATUS_STOPPED)
LOST_CONNECTION = r"gloo|nccl|process ?group|connection (closed|reset|refused)|timed? ?out|broken pipe"


class Rank(NamedTuple):
    """One of the processes that train together."""

    rank: int
    host: str
    pid: int

    def is_surely_alive(self) -> bool:
        """Whether it can be seen to run, which only those on this host can."""
        try:
            return self.host == socket.gethostname() and psutil.Process(self.pid).status() not in NOT_RUNNING
        except psutil.NoSuchProcess:
            return False


class LostRank(Callback):
    """Turns the error of a lost connection into one that names the lost rank."""

    def __init__(self) -> None:
        self.others: list[Rank] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if trainer.world_size > 1:
            ranks = [Rank(-1, "", -1)] * trainer.world_size
            own = Rank(trainer.global_rank, socket.gethostname(), os.getpid())
            torch.distributed.all_gather_object(ranks, own)
            self.others = [rank for rank in ranks if rank != own]

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if self.others and is_lost_connection(exception):
            lost = [rank for rank in self.others if not rank.is_surely_alive()] or self.others
            names = " or ".join(f"process {rank} (pid {pid} on {host})" for rank, host, pid in lost)
            reason = re.sub(r"^\[.*?\] |\. .*", "", str(exception), flags=re.DOTALL)  # without gloo's source and advice
            exception.__cause__ = UserError(
                f"Process {trainer.global_rank} of {trainer.world_size} has lost {names} ({reason}): "
                "see why it ended, then resume with ckpt=last."
            )


def is_lost_connection(error: BaseException) -> bool:
    """Whether an error is how gloo or NCCL say that another rank has gone, or is silent for too long."""
    return isinstance(error, RuntimeError) and re.search(LOST_CONNECTION, str(error), re.IGNORECASE) is not None
