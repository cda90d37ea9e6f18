"""`lm.train`: a training run from Python, such as in a notebook."""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

import lm.config.resolvers  # noqa: F401  (conf/ calls them)
from lm.config.cli import user_error_message
from lm.config.command_line import hydra_arguments
from lm.config.composition import CONF
from lm.config.overrides import check_command_line
from lm.errors import UserError
from lm.language_model import LanguageModel
from lm.training.run import run
from lm.training.run_folder import create, remove_unused


class TrainedRun(NamedTuple):
    """What `train` returns."""

    model: LanguageModel | None  # of the best checkpoint, if the run keeps one
    metrics: dict[str, float]  # such as val/ppl and test/ppl
    folder: Path  # of the run, with checkpoints, metrics and curves


def train(*overrides: str) -> TrainedRun:
    """Train as `python scripts/train.py OVERRIDES` does, in a folder below runs/train.

    `lm.train("experiment=quickstart", "trainer.max_epochs=1").model.generate("The")`

    Raises:
        UserError: an override is mistaken, or the run cannot be made.
    """
    try:
        with _interrupt_restored():
            return _train(_composed(overrides))
    except Exception as error:
        if (message := user_error_message(error)) is None:
            raise
        raise UserError(message) from error


def _train(config: DictConfig) -> TrainedRun:
    hydra = HydraConfig.instance()
    before, hydra.cfg = hydra.cfg, None
    folder = Path(config.hydra.runtime.output_dir)
    try:
        hydra.set_config(config)
        with open_dict(config):
            config = config.copy()
            del config["hydra"]
        _write_config(config, HydraConfig.get().overrides.task, folder / ".hydra")
        metrics, best = run(config)
        return TrainedRun(LanguageModel.load(best) if best else None, metrics, Path(config.run_dir))
    finally:
        hydra.cfg = before
        remove_unused(folder)


@contextmanager
def _interrupt_restored() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt, and does so after the block, too: Lightning exits and then ignores it."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        raise KeyboardInterrupt from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


def _composed(overrides: tuple[str, ...]) -> DictConfig:
    """The config of a run with a new folder, as Hydra hands it to a script."""
    if flags := [each for each in overrides if each.startswith("-")]:
        raise UserError(f"{flags[0]} given, but lm.train takes KEY=VALUE and GROUP=OPTION only.")
    arguments = hydra_arguments(overrides)
    check_command_line("train", arguments)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", arguments, return_hydra_config=True)
    with open_dict(config):
        config.hydra.runtime.output_dir = str(create(Path(config.hydra.run.dir).absolute()))
    return config


def _write_config(config: DictConfig, overrides: Sequence[str], folder: Path) -> None:
    """Write what Hydra writes to a run folder, and a report of runs reads."""
    folder.mkdir(exist_ok=True)
    OmegaConf.save(config, folder / "config.yaml")
    OmegaConf.save(OmegaConf.create(list(overrides)), folder / "overrides.yaml")
