"""How this process was launched: by hand, torchrun or SLURM, for the first time or as a restart."""

import os
import shlex
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from lm.errors import UserError

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override


def command(script: str) -> str:
    """How to start a script as this process was started: python scripts/SCRIPT.py in a checkout, else lm-SCRIPT."""
    file = Path(sys.argv[0]).parent / f"{script}.py"
    return f"python {shlex.quote(str(file))}" if file.is_file() else f"lm-{script}"


def run_name() -> str:
    """A name for the run's folder: the launcher's, the same in all processes and restarts, else the date and time."""
    return _launchers_name() or datetime.now().strftime("%Y-%m-%d_%H-%M-%S")


def has_shared_name() -> bool:
    """Whether torchrun or SLURM names the run's folder, for all processes and restarts."""
    return _launchers_name() is not None


def _launchers_name() -> str | None:
    """The name given by `torchrun --rdzv-id=NAME` or by a SLURM job step."""
    if in_slurm_step():
        return f"slurm_{os.environ['SLURM_JOB_ID']}_{os.environ['SLURM_STEP_ID']}"
    name = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    return f"torchrun_{name}" if name != "none" else None


def check_shared_name() -> None:
    """Check that the processes started by torchrun agree on the run folder."""
    from hydra.core.hydra_config import HydraConfig

    several = int(os.environ.get("WORLD_SIZE", 1)) > 1 and os.environ.get("TORCHELASTIC_RUN_ID") == "none"
    if several and not any(typed.startswith("hydra.run.dir=") for typed in HydraConfig.get().overrides.hydra):
        raise UserError(
            "torchrun has started several processes without a name for their run: give torchrun an --rdzv-id=NAME, "
            "the same on all nodes, or train.py a hydra.run.dir=DIR."
        )


def started_again() -> bool:
    """Whether torchrun or SLURM has restarted this command after a failure or requeue."""
    counts = (os.environ.get(f"{launcher}_RESTART_COUNT", "0") for launcher in ("SLURM", "TORCHELASTIC"))
    return any(int(count) > 0 for count in counts)


def in_slurm_step() -> bool:
    """Whether srun started this process, and any other ranks."""
    return "SLURM_STEP_ID" in os.environ and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive")


def is_first_process() -> bool:
    """Whether this process acts for the whole run: the only one, or the one of rank 0 on the first node."""
    names = ["RANK"] if "RANK" in os.environ else ["LOCAL_RANK", "NODE_RANK"]
    if in_slurm_step() and "RANK" not in os.environ:
        names = ["SLURM_PROCID"]
    return all(os.environ.get(name, "0") == "0" for name in names)


def task_overrides() -> "list[Override]":
    """The overrides on the command line, but for those of Hydra's own config."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.override_parser.overrides_parser import OverridesParser

    lines = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    return OverridesParser.create().parse_overrides(list(lines))


def in_multirun() -> bool:
    """Whether this process runs a job of a multirun."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def in_submitit_job() -> bool:
    """Whether submitit started this process as a job of a multirun."""
    return "SUBMITIT_EXECUTOR" in os.environ


def is_requeued_by_us() -> bool:
    """Whether we handle SLURM's signal before the time limit; submitit does so for its own jobs."""
    return in_slurm_step() and not in_submitit_job()
