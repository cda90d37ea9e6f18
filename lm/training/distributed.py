"""Distributed training: the DDP strategy, Lightning's SLURM plugin, requeueing, and what the ranks tell each other."""

import os
import subprocess
import sys
from datetime import timedelta
from typing import TypeVar

import torch
from lightning import Trainer
from lightning.fabric.plugins import ClusterEnvironment
from lightning.pytorch.plugins.environments import LightningEnvironment, SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy

from lm.config.checks import above_zero
from lm.config.launch import in_slurm_step

T = TypeVar("T")


def cluster() -> list[ClusterEnvironment]:
    """Lightning's plugin for processes started by srun, without its requeueing, which we do ourselves.

    A shell within a SLURM job has SLURM's variables, too; without srun Lightning launches its own processes.
    """
    if TorchElasticEnvironment.detect() or not SLURMEnvironment.detect():
        return []
    return [SLURMEnvironment(auto_requeue=False) if in_slurm_step() else LightningEnvironment()]


def any_rank(trainer: Trainer, decision: object) -> bool:
    """Whether it is true on any rank, since all must act at the same step."""
    return trainer.strategy.reduce_boolean_decision(bool(decision), all=False)


def gathered(trainer: Trainer, own: T) -> list[T]:
    """The values of all ranks, in their order."""
    values = [own] * trainer.world_size
    if trainer.world_size > 1:
        torch.distributed.all_gather_object(values, own)
    return values


def requeue() -> None:
    """Requeue this SLURM job; report a failure on stderr."""
    job = os.environ["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        subprocess.run(["scontrol", "requeue", job], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", None) or error
        print(f"scontrol requeue {job} has failed ({reason}): submit the job again.", file=sys.stderr, flush=True)


def ddp(timeout_minutes: float) -> DDPStrategy:
    """DDP with one process per device, and a timeout for ranks that do not respond."""
    above_zero(timeout_minutes=timeout_minutes)
    return DDPStrategy(timeout=timedelta(minutes=timeout_minutes))
