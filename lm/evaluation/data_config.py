"""The corpus to evaluate on: a given one, or the one that a checkpoint was trained on, found by its name.

Checkpoints are untrusted. Of their data config only the name of an option of conf/data and some sizes are used: URLs,
folders and targets come from the local conf/data and the command line.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from lm.config.composition import CONF
from lm.config.plain_data import shown
from lm.data.tokenize import was_tokenized
from lm.errors import UserError

SIZES = ("batch_size", "bptt")  # of the training windows that dynamic evaluation takes its statistics from
MAX_SIZE = 1_000_000


def evaluated_data(given: DictConfig, stored: Mapping[str, Any]) -> DictConfig:
    """The config of the corpus to score.

    Args:
        given: the section `data` of the command; without `_target_` it only locates the checkpoint's corpus.
        stored: the section `data` of the checkpoint's config.
    """
    data = given.copy() if "_target_" in given else _as_trained(given, stored)
    if OmegaConf.is_missing(data, "root") or data.root is None:
        raise UserError(f"The text is data={data.name}, a folder of your own: say where it is by data.root=DIR.")
    if was_tokenized(stored):  # the model knows such words alone
        data.tokenize = True
    return data


def _as_trained(given: DictConfig, stored: Mapping[str, Any]) -> DictConfig:
    name = stored.get("name")
    options = sorted(path.stem for path in (CONF / "data").glob("*.yaml"))
    if name not in options:
        raise UserError(
            f"The checkpoint was trained on data={shown(name)}, of which there is no conf/data/*.yaml here: choose one "
            f"of data={', '.join(options)}, with data.root=DIR for a text of your own."
        )
    running = GlobalHydra.instance().is_initialized()
    with nullcontext() if running else initialize_config_dir(str(CONF), version_base="1.3"):
        data = compose("evaluate", [f"data={name}"]).data
    for key in SIZES:
        data[key] = size = stored.get(key, data[key])
        if type(size) is not int or not 1 <= size <= MAX_SIZE:
            raise UserError(f"The checkpoint is refused: its data.{key} is {shown(size)}, not 1 to {MAX_SIZE}.")
    data.update({key: value for key, value in given.items() if value is not None})
    return data
