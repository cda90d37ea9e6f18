"""Settings of a process that trains or evaluates: the allocator, TF32, warnings, and log levels."""

import logging
import threading
import warnings

import torch
from lightning.pytorch.utilities.warnings import PossibleUserWarning

from lm.ops import keep_freed_memory
from lm.training.loggers import report_thread_error


def prepare_process() -> None:
    """Reuse large temporaries, let GPUs multiply fp32 in TF32, silence Lightning's hints that do not concern our users.

    `torch.set_float32_matmul_precision("high")` would also change the products of CPUs that have TF32.
    """
    keep_freed_memory()
    torch.backends.cuda.matmul.allow_tf32 = True
    threading.excepthook = report_thread_error
    warnings.filterwarnings("ignore", category=PossibleUserWarning)
    warnings.filterwarnings("ignore", message="(Checkpoint|Experiment logs) directory .* exists")  # a resumed run
    warnings.filterwarnings("ignore", message=".*treespec.*", category=FutureWarning)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.profilers").setLevel(logging.INFO)  # trainer.profiler=simple prints its table
