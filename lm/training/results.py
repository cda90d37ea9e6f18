"""The results of a run: printed, as a JSON file, and as its loggers show them beside those of others."""

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from lm.config.launch import command
from lm.evaluation.perplexity import verdict
from lm.files.text import json_text, write_text
from lm.models import CausalLM
from lm.models.core import core_name
from lm.models.size import describe_parameters, parameter_counts
from lm.training.loggers import CSV, TensorBoard, tensorboard

# of the config, what runs are compared by, besides the model
COMPARED = ("optimizer", "scheduler", "regularizer", "averaging", "data", "seed")
TRAINER = ("max_epochs", "max_steps", "gradient_clip_val", "precision")
NOT_COMPARED = {"source", "root", "cache_dir", "pretrained", "num_params", "num_params_of"}
NAMES = {"val": "validation", "test": "test"}


def best_checkpoint(trainer: Trainer) -> str | None:
    """The path of the best checkpoint, or None where none was kept."""
    path = getattr(trainer.checkpoint_callback, "best_model_path", "")
    return path if path and Path(path).is_file() else None


def validation_metrics(trainer: Trainer, module: LightningModule, data: LightningDataModule) -> dict[str, float]:
    """The validation results of the best checkpoint and its step; those of the last weights where none was kept."""
    if checkpoint := best_checkpoint(trainer):
        if metrics := getattr(trainer.checkpoint_callback, "best_metrics", None):
            return dict(metrics)
        loggers, trainer.loggers = trainer.loggers, []  # what follows is no point of the curve
        try:  # a callback of one's own has kept no results
            return _scored(trainer.validate, "val", checkpoint, module, data)
        finally:
            trainer.loggers = loggers
    last = {name: value.item() for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
    return last | {"val/step": getattr(trainer.lightning_module, "validated_step", 0)} if last else {}


def test_metrics(trainer: Trainer, module: LightningModule, data: LightningDataModule) -> dict[str, float]:
    """The test results of the best checkpoint and its step; those of the last weights where none was kept."""
    if checkpoint := best_checkpoint(trainer):
        return _scored(trainer.test, "test", checkpoint, module, data)
    [metrics] = trainer.test(module, data, verbose=False) or [{}]
    return {**metrics, "test/step": trainer.global_step} if metrics else {}


def _scored(
    score: Callable[..., Any], split: str, checkpoint: str, module: LightningModule, data: LightningDataModule
) -> dict[str, float]:
    """The results of a checkpoint, and its step."""
    step = torch.load(checkpoint, map_location="cpu", mmap=True, weights_only=True)["global_step"]
    [metrics] = score(module, data, ckpt_path=checkpoint, weights_only=True, verbose=False) or [{}]
    return {**metrics, f"{split}/step": step} if metrics else {}


def print_parameters(model: CausalLM) -> dict[str, int]:
    """Print the number of parameters by part, on rank 0 only, and return it and the parts' by their names."""
    rank_zero_only(print)(f"parameters: {describe_parameters(model)}", flush=True)
    counts = parameter_counts(model)
    return {"parameters": sum(counts.values())} | {f"parameters/{part}": count for part, count in counts.items()}


def log_config(trainer: Trainer, config: Mapping[str, Any], is_new: bool) -> None:
    """Log the config of a new run to TensorBoard as text, and its hyper-parameters to loggers of other projects.

    A resumed run goes on in its TensorBoard, but is a new one of the others.
    """
    if not trainer.is_global_zero:
        return
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoard) and is_new:
            # below "samples" in the list of texts
            logger.log_text("settings/config", f"```yaml\n{OmegaConf.to_yaml(OmegaConf.create(dict(config)))}```")
        elif not isinstance(logger, TensorBoard | CSV):
            logger.log_hyperparams(hyperparameters(config))


def log_hyperparameters(
    trainer: Trainer, config: Mapping[str, Any], sizes: Mapping[str, int], metrics: Mapping[str, float]
) -> None:
    """Log the hyper-parameters and the numbers of parameters to TensorBoard, beside the perplexities."""
    if logger := tensorboard(trainer):
        perplexities = [name for name in metrics if name.endswith("/ppl")]
        others = hyperparameters(config) | dict(sizes)
        # TensorBoard sorts the columns by name, capitals first, and shows the first few
        first: dict[str, Any] = {"Model": core_name(config["model"]["core"])}
        titles = {"Learning rate": "optimizer/lr", "Seed": "seed"}
        first |= {title: others.pop(key) for title, key in titles.items() if key in others}
        if "val/ppl" in metrics:  # the best; the column of the curve has its last value, and stands behind all these
            first["Perplexity"] = metrics["val/ppl"]
        logger.log_hyperparams(first | others, perplexities)


def hyperparameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """What runs are compared by: numbers, words and class names of the config by their paths, without the trainer's."""
    compared = {**config["model"], **{group: config[group] for group in COMPARED}}
    chosen = {}
    for path, value in _leaves(compared):
        key, _, name = path.rpartition("/")
        if value is None or NOT_COMPARED & {*path.split("/")}:
            continue
        if name == "_target_" and key:
            chosen[key] = value.rpartition(".")[2]
        elif not name.startswith("_"):
            chosen[path] = value
    return chosen | {key: value for key in TRAINER if (value := config["trainer"].get(key)) not in (None, -1)}


def _leaves(node: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}{key}/")
        else:
            yield f"{path}{key}", value


def print_results(metrics: Mapping[str, float], vocabulary_size: int, **details: object) -> None:
    """Print a row for each scored split, and further details below."""
    bad: dict[str, str] = {}
    table = Table("split", "step", "loss (nats)", "perplexity", "tokens scored")
    for split, name in NAMES.items():
        if f"{split}/loss" in metrics:
            loss, ppl, step, tokens = (metrics[f"{split}/{key}"] for key in ("loss", "ppl", "step", "tokens"))
            table.add_row(name, f"{int(step):,}", f"{loss:.4f}", f"{ppl:,.2f}", f"{int(tokens):,}")
            if said := verdict(loss, vocabulary_size):
                bad[name] = said
    Console().print(table)
    print_details(**bad, **details)


def print_details(**details: object) -> None:
    """Print a line for each detail; paths are not wrapped, so that they can be copied."""
    for name, value in details.items():
        Console().print(f"{name.replace('_', ' ')}: {value}", soft_wrap=True, highlight=False, markup=False)


def print_run(trainer: Trainer, vocabulary_size: int, run_dir: str | Path) -> None:
    """Print where and with what the run trains, on rank 0 only."""
    processes = f" in {trainer.world_size} processes" if trainer.world_size > 1 else ""
    device = trainer.strategy.root_device.type
    threads = f" (threads: {torch.get_num_threads()})" if device == "cpu" else ""
    rank_zero_only(print)(
        f"run: vocabulary of {vocabulary_size:,} words, {device}{threads}{processes}, {trainer.precision}, "
        f"in {relative(run_dir)}",
        flush=True,
    )


def next_commands(run_dir: str | Path, overrides: Sequence[str], best: str | Path) -> dict[str, str]:
    """The commands that use this run: generate from it, evaluate it, and resume it.

    Args:
        run_dir: the run folder.
        overrides: the run's, in Hydra's grammar.
        best: its best checkpoint, which callbacks.checkpoint may have given another folder or name.
    """
    typed = [re.sub(r'="([\w./-]+)"$', r"=\1", each) for each in overrides if not each.lstrip("+").startswith("ckpt=")]
    root = [each for each in typed if each.startswith("data.root=")]  # a checkpoint names its corpus, but no folder
    is_usual = Path(best).absolute() == Path(run_dir, "checkpoints", "best.ckpt").absolute()
    model = run_dir if is_usual else best
    arguments = {
        "generate": ("generate", [], model),
        "evaluate": ("evaluate", root, model),
        "resume": ("train", typed, run_dir),
    }
    return {
        name: f"{command(script)} {shlex.join([*words, f'ckpt={relative(ckpt)}'])}"
        for name, (script, words, ckpt) in arguments.items()
    }


def relative(path: str | Path) -> Path:
    """The path from the working directory if it lies in it."""
    path = Path(path)
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def write_json(values: Mapping[str, object], path: str | Path) -> None:
    """Write values as JSON, atomically."""
    write_text(json_text(values, indent=2) + "\n", path)
