"""Training in several processes: their strategy, SLURM's plugin and SLURM's queue."""

import os
import subprocess
import sys
from datetime import timedelta

from lightning.fabric.plugins import ClusterEnvironment
from lightning.pytorch.plugins.environments import LightningEnvironment, SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy

from lm.config.checks import above_zero
from lm.config.launch import in_slurm_step


def cluster() -> list[ClusterEnvironment]:
    """Lightning's plugin for processes that srun has started, with the queueing left to us.

    A shell within a SLURM job has SLURM's variables, too, without srun; there Lightning starts its own processes.
    """
    if TorchElasticEnvironment.detect() or not SLURMEnvironment.detect():
        return []
    return [SLURMEnvironment(auto_requeue=False) if in_slurm_step() else LightningEnvironment()]


def requeue() -> None:
    """Ask SLURM to start this job again; on failure say so on stderr."""
    job = os.environ["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        subprocess.run(["scontrol", "requeue", job], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", None) or error
        print(f"scontrol requeue {job} has failed ({reason}): submit the job again.", file=sys.stderr, flush=True)


def ddp(timeout_minutes: float) -> DDPStrategy:
    """One process for each device, which gives up when another has not answered for so long."""
    above_zero(timeout_minutes=timeout_minutes)
    return DDPStrategy(timeout=timedelta(minutes=timeout_minutes))
