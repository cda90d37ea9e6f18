"""Our side: Lightning's own loops, paused between their steps; without loggers, checkpoints and progress."""

from pathlib import Path
from typing import Any

import lightning
import torch
from hydra.utils import instantiate
from lightning import Callback, LightningModule, Trainer

from lm.benchmark.contender import Contender
from lm.data.corpus import load_corpus
from lm.data.sources import Splits
from lm.generation.config import GenerationConfig
from lm.generation.sampling import generate_ids
from lm.training.module import LitLanguageModel
from lm.training.process import prepare_process


class Paced(Callback):
    """Lets a trainer take a step when its contender is asked for one."""

    def __init__(self, contender: Contender) -> None:
        self.contender = contender

    def on_train_batch_start(self, *_: Any) -> None:
        """Wait."""
        self.contender.wait()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        """Tell."""
        self.contender.losses.append(outputs["loss"].item())
        self.contender.tell()

    def on_validation_batch_start(self, *_: Any) -> None:
        """Wait."""
        self.contender.wait()

    def on_validation_batch_end(self, *_: Any) -> None:
        """Tell."""
        self.contender.tell()


class Training(Contender):
    """A step of `trainer.fit` at a time."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        prepare_process()
        lightning.seed_everything(config["seed"], verbose=False)
        options = {"callbacks": [Paced(self)], "logger": False, "enable_checkpointing": False}
        options |= {"enable_progress_bar": False, "limit_val_batches": 0, "max_epochs": 1_000_000}
        self.trainer = instantiate(config["trainer"], **options)
        self.data = instantiate(config["data"])
        vocabulary = self.data.corpus.vocabulary
        model = instantiate(config["model"], vocabulary_size=len(vocabulary))
        parts = instantiate(config["optimizer"]), instantiate(config["scheduler"])
        self.module = LitLanguageModel(model, vocabulary, {}, *parts)

    def run(self) -> None:
        """Train, a window whenever asked."""
        self.trainer.fit(self.module, self.data)


class Evaluation(Contender):
    """A step of `trainer.validate` at a time."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        prepare_process()
        lightning.seed_everything(config["seed"], verbose=False)
        options = {"callbacks": [Paced(self)], "logger": False, "enable_checkpointing": False}
        self.trainer = instantiate(config["trainer"], **options, enable_progress_bar=False)
        self.data = instantiate(config["data"])
        vocabulary = self.data.corpus.vocabulary
        self.module = LitLanguageModel(instantiate(config["model"], vocabulary_size=len(vocabulary)), vocabulary, {})

    def run(self) -> None:
        """Validate again and again, a window whenever asked."""
        while True:
            self.trainer.validate(self.module, self.data, verbose=False)


class Generation(Contender):
    """A word of every text at a time."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        torch.manual_seed(config["seed"])
        self.vocabulary = instantiate(config["data"]).corpus.vocabulary
        self.model = instantiate(config["model"], vocabulary_size=len(self.vocabulary)).eval()
        self.config = GenerationConfig(max_words=1_000_000, num_samples=config["streams"])

    def begin(self) -> None:
        """Begin new texts."""
        self.texts = generate_ids(self.model, torch.tensor([0]), self.config, self.vocabulary)

    def work(self) -> None:
        """Draw the next word of each."""
        next(self.texts)


class Reading(Contender):
    """The whole corpus at a time, from the cache."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.splits = Splits(*map(Path, config["files"]))
        self.cache_dir = Path(config["data"]["cache_dir"]).expanduser()

    def work(self) -> None:
        """Make the corpus ready."""
        load_corpus(self.splits, self.cache_dir)
