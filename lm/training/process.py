"""Settings of a process that trains or evaluates: the allocator, warnings, and log levels."""

import logging
import threading
import warnings

from lightning.pytorch.utilities.warnings import PossibleUserWarning

from lm.ops import keep_freed_memory
from lm.training.loggers import report_thread_error


def prepare_process() -> None:
    """Reuse large temporaries between steps, and silence Lightning's hints that do not concern our users."""
    keep_freed_memory()
    threading.excepthook = report_thread_error
    warnings.filterwarnings("ignore", category=PossibleUserWarning)
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists")  # a resumed run
    warnings.filterwarnings("ignore", message=".*treespec.*", category=FutureWarning)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
