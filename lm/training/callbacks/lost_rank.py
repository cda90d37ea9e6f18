"""When a rank is lost, the others report which one."""

import os
import re
import socket
from typing import NamedTuple

import psutil
from lightning import Callback, LightningModule, Trainer

from lm.errors import UserError
from lm.training.distributed import gathered

NOT_RUNNING = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD, psutil.STATUS_STOPPED)
LOST_CONNECTION = r"gloo|nccl|process ?group|connection (closed|reset|refused)|timed? ?out|broken pipe"


class Rank(NamedTuple):
    """A rank of the process group."""

    rank: int
    host: str
    pid: int

    def is_surely_alive(self) -> bool:
        """Whether it is running; known only for ranks on this host."""
        try:
            return self.host == socket.gethostname() and psutil.Process(self.pid).status() not in NOT_RUNNING
        except psutil.NoSuchProcess:
            return False


class LostRank(Callback):
    """Turns a connection error into one that names the lost rank."""

    def __init__(self) -> None:
        self.others: list[Rank] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        own = Rank(trainer.global_rank, socket.gethostname(), os.getpid())
        self.others = [rank for rank in gathered(trainer, own) if rank != own]

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
    """Whether gloo or NCCL report by this error that another rank was lost, or timed out."""
    return isinstance(error, RuntimeError) and re.search(LOST_CONNECTION, str(error), re.IGNORECASE) is not None
