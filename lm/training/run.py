"""A whole training run: train, test the best checkpoint, write and print the results."""

from pathlib import Path
from typing import NamedTuple

import lightning
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from lightning import Trainer
from lightning.pytorch.callbacks import Checkpoint
from omegaconf import DictConfig

from lm.config import validation as configs
from lm.config.cli import STOPPED, leave, reason_left_in
from lm.data.summary import print_summary
from lm.training.budget import set_max_steps
from lm.training.callbacks import TrainingTime
from lm.training.checks import check_training_config, check_windows
from lm.training.distributed import cluster
from lm.training.init_from import adopt_model, initialize_weights, make_data
from lm.training.loggers import finishing_wandb
from lm.training.module import LitLanguageModel
from lm.training.process import prepare_process
from lm.training.results import (
    best_checkpoint,
    log_config,
    log_hyperparameters,
    next_commands,
    print_parameters,
    print_results,
    print_run,
    test_metrics,
    validation_metrics,
    write_json,
)
from lm.training.resume.checkpoint_io import AtomicCheckpointIO
from lm.training.resume.choose import check_same_text, continue_run
from lm.training.resume.graceful_stop import was_stopped
from lm.training.resume.validation import Resumed, one_line_if_not_restored
from lm.training.run_folder import continue_folder, locked
from lm.training.runs import METRICS_FILE
from lm.training.width import set_width


class FinishedRun(NamedTuple):
    """What a run leaves."""

    metrics: dict[str, float]  # such as val/ppl and test/ppl
    checkpoint: str | None  # the path of the best one; None where a run keeps none, as debug=one_batch


def run(config: DictConfig) -> FinishedRun:
    """Run the whole job that `config` describes, in a folder that no other run uses."""
    prepare_process()
    adopt_model(config)
    check_training_config(config)
    set_width(config)
    resumed = continue_run(config)
    with locked(config.run_dir):
        set_max_steps(config, resumed)
        return fit_and_test(config, resumed)


def fit_and_test(config: DictConfig, resumed: Resumed | None) -> FinishedRun:
    """Train, from the checkpoint `resumed` if there is one, then test the best checkpoint."""
    lightning.seed_everything(config.seed, verbose=False)
    timer = TrainingTime()
    trainer = make_trainer(config, timer)

    data = make_data(config)
    print_summary(data)
    vocabulary = data.corpus.vocabulary
    if resumed is not None:
        check_same_text(resumed.path, data.corpus)
    check_windows(config.trainer, data)
    model = instantiate(config.model, vocabulary_size=len(vocabulary))
    if resumed is None:
        initialize_weights(model, vocabulary, config)
    sizes = print_parameters(model)
    print_run(trainer, len(vocabulary), config.run_dir)
    plain_config = configs.snapshot(config)
    optimizer, scheduler = instantiate(config.optimizer), instantiate(config.scheduler)
    regularizers = instantiate(config.regularizer)
    module = LitLanguageModel(model, vocabulary, plain_config, optimizer, scheduler, regularizers)

    with reason_left_in(config.run_dir), finishing_wandb(trainer.loggers):
        if resumed is not None:
            continue_folder(config.run_dir)
        log_config(trainer, plain_config, is_new=resumed is None)
        with one_line_if_not_restored(trainer, resumed):
            trainer.fit(module, data, ckpt_path=resumed and resumed.path, weights_only=True)
        if trainer.is_global_zero and was_stopped(trainer):
            leave(STOPPED, config.run_dir)
        # now, since scoring the best checkpoint restores the callbacks as they were then
        costs = timer.metrics | {"epochs": trainer.current_epoch, "steps": trainer.global_step}
        metrics = validation_metrics(trainer, module, data)
        checkpoint = best_checkpoint(trainer)
        try:
            if config.test:
                metrics |= test_metrics(trainer, module, data)
        finally:  # keep the validation results, however the test ends
            if trainer.is_global_zero:
                write_json(metrics | sizes | costs, Path(config.run_dir, METRICS_FILE))
                log_hyperparameters(trainer, plain_config, sizes, metrics)
                best = checkpoint or "none: these are the last weights"
                overrides = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
                commands = next_commands(config.run_dir, overrides, checkpoint) if checkpoint else {}
                print_results(metrics, len(vocabulary), best_checkpoint=best, run_folder=config.run_dir, **commands)
    return FinishedRun(metrics, checkpoint)


def make_trainer(config: DictConfig, timer: TrainingTime) -> Trainer:
    """The trainer of a config, with its callbacks, loggers and plugins."""
    averaging = [instantiate(config.averaging)] if config.averaging else []
    callbacks = [timer, *averaging, *instantiate(config.callbacks).values()]
    loggers = list(instantiate(config.logger).values())
    keeps_best = any(isinstance(each, Checkpoint) for each in callbacks)  # else Lightning would add a callback for it
    parts = {"callbacks": callbacks, "logger": loggers, "plugins": [AtomicCheckpointIO(), *cluster()]}
    return instantiate(config.trainer, **parts, enable_checkpointing=keeps_best)
