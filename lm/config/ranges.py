"""The range of every number in conf/, those of other libraries' classes too: checked before any work."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lm.errors import UserError


@dataclass(frozen=True)
class Range:
    """The numbers that a key may have.

    Attributes:
        low: the least one.
        high: the largest one.
        whole: whether it must be an int.
        above: whether `low` itself is too low.
        below: whether `high` itself is too high.
        share: whether a float of at most 1 may stand for a share, as in Lightning's `limit_train_batches`.
        also: other values that have a meaning of their own.
        text: whether strings are left to whoever takes the value.
    """

    low: float
    high: float
    whole: bool = False
    above: bool = False
    below: bool = False
    share: bool = False
    also: tuple[Any, ...] = ()
    text: bool = False

    def has(self, value: Any) -> bool:
        """Whether a value is in the range; NaN is in none."""
        if any(type(value) is type(each) and value == each for each in self.also):
            return True
        if isinstance(value, str):
            return self.text
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if isinstance(value, float) and self.share:
            return (value > 0 or self.low == 0) and 0 <= value <= 1
        if isinstance(value, float) and self.whole:
            return False
        in_low = self.low < value if self.above else self.low <= value
        return in_low and (value < self.high if self.below else value <= self.high)

    def __str__(self) -> str:
        number = "a whole number, " if self.whole else ""
        low = f"above {self.low}" if self.above else f"at least {self.low}"
        share = ", or a share from 0.0 to 1.0" if self.share else ""
        also = "".join(f", or {str(each).lower()}" for each in self.also)
        return f"{number}{low} and {'below' if self.below else 'at most'} {self.high}{share}{also}"


def whole(low: int, high: int, *also: Any, text: bool = False) -> Range:
    """Integers from `low` to `high`."""
    return Range(low, high, whole=True, also=also, text=text)


COUNT = whole(1, 10**9)
SIZE = whole(1, 10**6)
NATURAL = whole(0, 10**9)
SEED = whole(0, 2**32 - 1)  # what Lightning and numpy take
POSITIVE = Range(0, 10**6, above=True)
PROBABILITY = Range(0, 1, below=True)
SHARE = Range(0, 1, above=True)
TEMPERATURE = Range(1e-6, 1e6)  # beyond, log-probabilities divided by it overflow
WINDOWS = Range(0, 10**9, whole=True, share=True)
DEVICES = whole(1, 1024, -1, "auto")
DIVISOR = Range(1, 10**6)

RANGES = {
    # generate, score, benchmark
    "beams": whole(1, 10**5),
    "length_penalty": Range(0, 100),
    "lines": COUNT,
    "min_p": SHARE,
    "no_repeat_ngram": SIZE,
    "num_samples": whole(1, 10**5),
    "repetition_penalty": DIVISOR,
    "rounds": SIZE,
    "sentences": COUNT,
    "steps": SIZE,
    "streams": whole(1, 10**5),
    "temperature": TEMPERATURE,
    "top": whole(0, 10**6),
    "top_k": COUNT,
    "top_p": SHARE,
    "words": NATURAL,
    # train
    "seed": SEED,
    "callbacks.checkpoint.every_n_epochs": COUNT,
    "callbacks.checkpoint.every_n_train_steps": COUNT,
    "callbacks.checkpoint.save_top_k": whole(0, 10**6, -1),
    "callbacks.tensorboard_layout.words": SIZE,
    "callbacks.log_prob_heat_map.columns": whole(1, 100),
    "callbacks.log_prob_heat_map.steps": whole(1, 1000),
    "callbacks.resumable_checkpoint.every_n_minutes": POSITIVE,
    "callbacks.resumable_checkpoint.every_n_steps": COUNT,
    "callbacks.sample_text.temperature": TEMPERATURE,
    "callbacks.sample_text.words": whole(1, 10**5),
    "callbacks.surprisal_text.top": whole(0, 100),
    "callbacks.surprisal_text.words": whole(1, 1000),
    "data.batch_size": SIZE,
    "data.bptt": SIZE,
    "data.eval_batch_size": SIZE,
    "data.max_size": whole(3, 2**31 - 1),
    "data.min_count": COUNT,
    "data.seed": SEED,
    "model.core.context": SIZE,
    "model.core.dropout": PROBABILITY,
    "model.core.feedforward_size": whole(1, 10**5),
    "model.core.hidden_size": whole(1, 10**5),
    "model.core.layer_dropout": PROBABILITY,
    "model.core.num_heads": whole(1, 10**5),
    "model.core.num_layers": whole(1, 1000),
    "model.embedding.cutoffs": whole(1, 2**31 - 1),
    "model.embedding.div_value": DIVISOR,
    "model.embedding.embedding_size": whole(1, 10**5),
    "model.head.cutoffs": whole(1, 2**31 - 1),
    "model.head.div_value": DIVISOR,
    "optimizer.betas": PROBABILITY,
    "optimizer.dampening": Range(0, 1),
    "optimizer.eps": SHARE,
    "optimizer.lr": POSITIVE,
    "optimizer.momentum": PROBABILITY,
    "optimizer.weight_decay": Range(0, 10**6),
    "scheduler.factor": Range(1, 10**6, above=True),
    "scheduler.final_divisor": Range(0, 10**12, above=True),
    "scheduler.patience": NATURAL,
    "scheduler.start_divisor": Range(0, 10**12, above=True),
    "scheduler.warmup_share": PROBABILITY,
    "scheduler.warmup_steps": NATURAL,
    "trainer.accumulate_grad_batches": SIZE,
    "trainer.check_val_every_n_epoch": COUNT,
    "trainer.devices": DEVICES,
    "trainer.fast_dev_run": whole(0, 10**6, True, False),
    "trainer.gradient_clip_val": POSITIVE,
    "trainer.limit_predict_batches": WINDOWS,
    "trainer.limit_test_batches": WINDOWS,
    "trainer.limit_train_batches": WINDOWS,
    "trainer.limit_val_batches": WINDOWS,
    "trainer.log_every_n_steps": COUNT,
    "trainer.max_epochs": whole(0, 10**9, -1),
    "trainer.max_steps": whole(0, 10**12, -1),
    "trainer.min_epochs": NATURAL,
    "trainer.min_steps": NATURAL,
    "trainer.num_nodes": whole(1, 10**5),
    "trainer.num_sanity_val_steps": whole(0, 10**6, -1),
    "trainer.overfit_batches": WINDOWS,
    "trainer.profiler.row_limit": whole(1, 10**6, -1),
    "trainer.reload_dataloaders_every_n_epochs": NATURAL,
    "trainer.strategy.timeout_minutes": POSITIVE,
    "trainer.val_check_interval": Range(1, 10**9, whole=True, share=True, text=True),
    # evaluate
    "evaluation.batch_size": SIZE,
    "evaluation.cache.candidates.interpolation_weight": PROBABILITY,
    "evaluation.cache.candidates.theta": Range(0, 1000),
    "evaluation.cache.interpolation_weight": PROBABILITY,
    "evaluation.cache.theta": Range(0, 1000),
    "evaluation.cache.window": whole(1, 10**7),
    "evaluation.context": SIZE,
    "evaluation.dynamic.candidates.decay": PROBABILITY,
    "evaluation.dynamic.candidates.lr": POSITIVE,
    "evaluation.dynamic.decay": PROBABILITY,
    "evaluation.dynamic.lr": POSITIVE,
    "evaluation.dynamic.statistics.epsilon": POSITIVE,
    "evaluation.dynamic.statistics.windows": COUNT,
    "evaluation.stride": SIZE,
    "evaluation.temperature": TEMPERATURE,
    "evaluation.temperatures": TEMPERATURE,
    "evaluation.tune_tokens": whole(1, 10**12),
    "fabric.devices": DEVICES,
    # Hydra's launchers and sweepers
    "hydra.launcher.n_jobs": whole(1, 1024, -1),
    "hydra.launcher.timeout_min": COUNT,
    "hydra.sweeper.max_failure_rate": Range(0, 1),
    "hydra.sweeper.n_jobs": whole(1, 1024),
    "hydra.sweeper.n_trials": SIZE,
    "hydra.sweeper.sampler.n_startup_trials": NATURAL,
    "hydra.sweeper.sampler.seed": SEED,
}


def check_ranges(config: DictConfig, skip: Collection[str] = ()) -> None:
    """Check every number of a composed config against its range; null is left to whoever takes the value.

    Args:
        config: of any script, with Hydra's own node or without it.
        skip: keys that are not to be checked.

    Raises:
        UserError: for the first that is out of its range.
    """
    for key in (key for key in RANGES if key not in skip):
        allowed, value = RANGES[key], OmegaConf.select(config, key)
        values = list(value) if OmegaConf.is_list(value) else [value]
        if key.endswith(".devices") and OmegaConf.is_list(value):
            _check_indices(key, values)
            continue
        for each in values:
            if each is not None and not allowed.has(each):
                raise UserError(f"{key}={_short(each)} given, but it must be {allowed}.")


def _check_indices(key: str, devices: list[Any]) -> None:
    """Devices may be listed by their indices instead of counted."""
    if not devices or len({*devices}) < len(devices) or not all(whole(0, 1023).has(each) for each in devices):
        raise UserError(f"{key}={devices} given, but a list of devices must have different indices from 0 on.")


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 50 else f"{text[:20]}..."
