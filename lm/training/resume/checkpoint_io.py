"""Lightning's CheckpointIO with atomic writes."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from lm.errors import UserError
from lm.files.atomic import atomic_write
from lm.files.errors import os_error_reason


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints atomically: a kill or a full disk leaves the old one intact."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        try:
            with atomic_write(Path(path)) as file:
                torch.save(checkpoint, file)
        except (OSError, RuntimeError) as error:
            if reason := os_error_reason(error):
                raise UserError(f"Cannot write {path}: {reason}. An earlier checkpoint of that name stays.") from error
            raise
