"""`lm.train`: a training run from Python, such as in a notebook."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

import lm.config.resolvers  # noqa: F401  (conf/ calls them)
from lm.config.command_line import hydra_arguments
from lm.config.overrides import CONF, check_command_line
from lm.language_model import LanguageModel
from lm.training.run import run
from lm.training.run_folder import create


class TrainedRun(NamedTuple):
    """What `train` returns."""

    model: LanguageModel  # of the best checkpoint
    metrics: dict[str, float]  # such as val/ppl and test/ppl
    folder: Path  # of the run, with checkpoints, metrics and curves


def train(*overrides: str) -> TrainedRun:
    """Train as `python scripts/train.py OVERRIDES` does, in a folder below runs/train.

    `lm.train("experiment=quickstart", "trainer.max_epochs=1").model.generate("The")`

    Raises:
        UserError: an override is mistaken, or the run cannot be made.
    """
    config = _composed(overrides)
    hydra = HydraConfig.instance()
    before, hydra.cfg = hydra.cfg, None
    try:
        hydra.set_config(config)
        folder = Path(config.hydra.runtime.output_dir)
        with open_dict(config):
            config = config.copy()
            del config["hydra"]
        _write_config(config, HydraConfig.get().overrides.task, folder / ".hydra")
        metrics = run(config)
        return TrainedRun(LanguageModel.load(config.run_dir), metrics, Path(config.run_dir))
    finally:
        hydra.cfg = before


def _composed(overrides: tuple[str, ...]) -> DictConfig:
    """The config of a run with a new folder, as Hydra hands it to a script."""
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
