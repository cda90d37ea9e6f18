"""Our side: Lightning's own loops, without loggers, checkpoints and progress bars.

Each function runs forever and calls `next_turn` when it is ready and after each step.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import torch
from hydra.utils import instantiate
from lightning import Callback, LightningDataModule, LightningModule, Trainer

from lm.benchmark.device import device_of
from lm.data.corpus import load_corpus
from lm.data.sources import Splits, digest_of_version
from lm.generation.config import GenerationConfig
from lm.generation.sampling import generate_ids
from lm.training.module import LitLanguageModel
from lm.training.process import prepare_process


class TakeTurns(Callback):
    """Calls `next_turn` after each of a trainer's steps."""

    def __init__(self, next_turn: Callable[..., None]) -> None:
        self.next_turn = next_turn

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        self.next_turn(outputs["loss"].item())

    def on_validation_batch_end(self, *_: Any) -> None:
        self.next_turn()


def train(config: dict[str, Any], next_turn: Callable[..., None]) -> None:
    """A step is one of `trainer.fit`."""
    trainer, module, data = _lightning_parts(config, TakeTurns(next_turn))
    next_turn()
    trainer.fit(module, data)


class Learn(Callback):
    """Answers, after each validation, the seconds of training since the one before and the loss in nats."""

    def __init__(self, next_turn: Callable[..., None]) -> None:
        self.next_turn = next_turn
        self.start = self.seconds = 0.0

    def on_train_start(self, *_: Any) -> None:
        self.start = time.perf_counter()

    def on_validation_start(self, *_: Any) -> None:
        self.seconds = time.perf_counter() - self.start

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.next_turn((self.seconds, trainer.callback_metrics["val/loss"].item()))
        self.start = time.perf_counter()


def learn(config: dict[str, Any], next_turn: Callable[..., None]) -> None:
    """A step is training and then a validation; see `lm.benchmark.learning`."""
    options = {"val_check_interval": config["steps"], "check_val_every_n_epoch": None}
    options |= {"limit_val_batches": config["windows"], "num_sanity_val_steps": 0}
    trainer, module, data = _lightning_parts(config, Learn(next_turn), **options)
    next_turn()
    trainer.fit(module, data)


def evaluate(config: dict[str, Any], next_turn: Callable[..., None]) -> None:
    """A step is a window of `trainer.validate`."""
    trainer, module, data = _lightning_parts(config, TakeTurns(next_turn))
    next_turn()
    while True:
        trainer.validate(module, data, verbose=False)


def _lightning_parts(
    config: dict[str, Any], callback: Callback, **options: Any
) -> tuple[Trainer, LitLanguageModel, LightningDataModule]:
    prepare_process()
    lightning.seed_everything(config["seed"], verbose=False)
    without = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    endless = {"max_epochs": 1_000_000, "check_val_every_n_epoch": 1_000_000}
    trainer = instantiate(config["trainer"], callbacks=[callback], **without, **endless | options)
    data = instantiate(config["data"])
    vocabulary = data.corpus.vocabulary
    model = instantiate(config["model"], vocabulary_size=len(vocabulary))
    optimizer, scheduler = instantiate(config["optimizer"]), instantiate(config["scheduler"])
    return trainer, LitLanguageModel(model, vocabulary, {}, optimizer, scheduler), data


def generate(config: dict[str, Any], next_turn: Callable[..., None]) -> None:
    """A step is a word of each of `num_samples` texts."""
    torch.manual_seed(config["seed"])
    vocabulary = instantiate(config["data"]).corpus.vocabulary
    model = instantiate(config["model"], vocabulary_size=len(vocabulary)).eval().to(device_of(config))
    prompt = torch.tensor([vocabulary.eos_id], device=device_of(config))
    generation = GenerationConfig(max_words=config["words"], num_samples=config["num_samples"])
    next_turn()
    while True:
        for _ in generate_ids(model, prompt, generation, vocabulary):
            next_turn()


def read(config: dict[str, Any], next_turn: Callable[..., None]) -> None:
    """A step is the whole corpus, from the cache, as a new process reads it."""
    next_turn()
    while True:
        digest_of_version.cache_clear()
        load_corpus(Splits(*map(Path, config["files"])), Path(config["data"]["cache_dir"]).expanduser())
        next_turn()
