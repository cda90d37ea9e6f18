"""The checkpoint with the lowest validation loss, which stores its own score."""

import sys
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

KEY = "best"  # the key of our entry in this callback's checkpoints
FILE = "file"  # in the entry: the checkpoint's name


class BestCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint, restored from the files themselves; non-finite losses are never kept.

    Lightning stores the scores in last.ckpt, by absolute path: a moved run would lose its best one. Here each file
    stores its own metrics, so a run folder may be moved, copied or pruned between runs. Copies under another name are
    the user's, and left alone.
    """

    metrics: dict[str, dict[str, float]]  # of each kept file: its validation metrics and step
    writing: str | None = None  # the file that is being written

    @property
    def best_metrics(self) -> dict[str, float] | None:
        """The validation metrics of the best checkpoint, and the step it was written at; None where there is none."""
        metrics = self.metrics.get(self.best_model_path)
        return metrics and {name: value for name, value in metrics.items() if name.startswith("val/")}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the state from an earlier run's files in the folder."""
        self.metrics = trainer.strategy.broadcast(self._read_folder() if trainer.is_global_zero else {})
        device = trainer.strategy.root_device
        scores = {path: torch.tensor(each[str(self.monitor)], device=device) for path, each in self.metrics.items()}
        ranked = sorted(scores, key=lambda path: scores[path].item(), reverse=self.mode == "max")
        ranked = ranked[: self.save_top_k] if self.save_top_k >= 0 else ranked
        if ranked:
            self.best_k_models = {path: scores[path] for path in ranked}
            self.best_model_path, self.kth_best_model_path = ranked[0], ranked[-1]
            self.best_model_score, self.kth_value = scores[ranked[0]], scores[ranked[-1]]

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        return current is not None and bool(current.isfinite()) and super().check_monitor_top_k(trainer, current)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if self.writing is not None:  # else another callback's file
            checkpoint[KEY] = self.metrics[self.writing] | {FILE: Path(self.writing).name}

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        values = {name: value.item() for name, value in trainer.callback_metrics.items()}
        self.metrics[filepath] = values | {"val/step": trainer.global_step}
        self.writing = filepath
        try:
            super()._save_checkpoint(trainer, filepath)
        finally:
            self.writing = None

    def state_dict(self) -> dict[str, Any]:
        return {}  # stored in the files themselves

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        pass

    def _read_folder(self) -> dict[str, dict[str, float]]:
        found = {}
        for path in sorted(Path(str(self.dirpath)).glob("[!.]*.ckpt")):
            try:
                entry = torch.load(path, map_location="cpu", mmap=True, weights_only=True).get(KEY)
                if entry is not None and str(self.monitor) in entry and entry.pop(FILE, path.name) == path.name:
                    found[str(path)] = {str(name): float(value) for name, value in entry.items()}
            except Exception:  # damaged files raise many errors
                print(f"{path} is damaged: training goes on without it.", file=sys.stderr, flush=True)
        return found
