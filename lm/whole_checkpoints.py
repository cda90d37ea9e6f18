"""How Lightning writes a checkpoint: whole or not at all."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from lm.errors import UserError
from lm.files import written_aside


class WholeOrNothing(TorchCheckpointIO):
    """Writes checkpoints so that a kill or a full disk in between leaves the old one as it was."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write aside, then rename.

        Raises:
            UserError: if the file cannot be written.
        """
        try:
            with written_aside(Path(path)) as aside:
                torch.save(checkpoint, aside)
        except (OSError, RuntimeError) as error:  # torch's zip writer turns a full disk into a RuntimeError
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise UserError(f"Cannot write the checkpoint {path} ({reason}): free some space, then go on.") from error
