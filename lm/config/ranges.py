"""The range of every number in conf/, including those for other libraries' classes, checked before any work."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lm.errors import UserError


@dataclass(frozen=True)
class Range:
    """The valid numbers of a key."""

    low: float
    high: float
    whole: bool = False  # whether it must be an int
    above: bool = False  # whether `low` is excluded
    below: bool = False  # whether `high` is excluded
    fraction: bool = False  # whether a float of at most 1 is a fraction, as in Lightning's `limit_train_batches`
    also: tuple[Any, ...] = ()  # other valid values, with special meanings
    text: bool = False  # whether strings pass unchecked

    def has(self, value: Any) -> bool:
        """Whether a value is in the range; NaN is in none."""
        if any(type(value) is type(each) and value == each for each in self.also):
            return True
        if isinstance(value, str):
            return self.text
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if isinstance(value, float) and self.fraction:
            return (value > 0 or self.low == 0) and 0 <= value <= 1
        if isinstance(value, float) and self.whole:
            return False
        in_low = self.low < value if self.above else self.low <= value
        return in_low and (value < self.high if self.below else value <= self.high)

    def __str__(self) -> str:
        number = "a whole number, " if self.whole else ""
        low = f"above {self.low}" if self.above else f"at least {self.low}"
        fraction = ", or a fraction from 0.0 to 1.0" if self.fraction else ""
        also = "".join(f", or {str(each).lower()}" for each in self.also)
        return f"{number}{low} and {'below' if self.below else 'at most'} {self.high}{fraction}{also}"


def _whole(low: int, high: int, *also: Any) -> Range:
    return Range(low, high, whole=True, also=also)


# the keys of each range, several per line
_KEYS = {
    # whole numbers
    _whole(0, 100): "callbacks.surprisal_text.top",
    _whole(0, 10**6): "top most",
    _whole(0, 2**16 - 1): "port",
    _whole(0, 10**6, -1): "callbacks.checkpoint.save_top_k trainer.num_sanity_val_steps",
    _whole(0, 10**6, True, False): "trainer.fast_dev_run",
    _whole(0, 10**9): """
        max_words averaging.non_monotone_interval scheduler.patience
        scheduler.warmup_steps trainer.min_epochs trainer.min_steps
        trainer.reload_dataloaders_every_n_epochs hydra.sweeper.sampler.n_startup_trials""",
    _whole(0, 10**9, -1): "trainer.max_epochs",
    _whole(0, 10**12, -1): "trainer.max_steps",
    _whole(0, 2**32 - 1): "seed data.seed hydra.sweeper.sampler.seed",  # the limit of Lightning and numpy
    _whole(0, 1000): "model.core.rounds",
    _whole(1, 20): "evaluation.ngram.order",
    _whole(1, 99): "optimizer.ns_steps",
    _whole(1, 100): "callbacks.log_prob_heat_map.lines",
    _whole(1, 1000): """
        callbacks.log_prob_heat_map.words callbacks.surprisal_text.words model.core.num_layers
        model.head.num_experts model.core.kernel_size""",
    _whole(1, 1024): "hydra.sweeper.n_jobs",
    _whole(1, 1024, -1): "hydra.launcher.n_jobs",
    _whole(1, 1024, -1, "auto"): "trainer.devices fabric.devices",
    _whole(1, 10**5): """
        num_beams num_samples streams callbacks.sample_text.words model.embedding.embedding_size model.core.hidden_size
        model.core.feedforward_size model.core.last_size model.core.num_heads model.core.rank trainer.num_nodes""",
    _whole(1, 10**6): """
        no_repeat_ngram_size rounds steps words chunks learn.steps learn.windows learn.rounds
        callbacks.tensorboard_layout.words data.batch_size data.bptt data.eval_batch_size
        model.core.context model.core.memory trainer.accumulate_grad_batches
        evaluation.batch_size evaluation.context evaluation.stride hydra.sweeper.n_trials""",
    _whole(1, 10**6, -1): "trainer.profiler.row_limit",
    _whole(1, 10**7): "evaluation.cache.window",
    _whole(1, 10**9): """
        max_lines max_sentences top_k averaging.every_n_steps
        callbacks.checkpoint.every_n_epochs callbacks.checkpoint.every_n_train_steps
        callbacks.resumable_checkpoint.every_n_steps callbacks.early_stopping.patience
        data.min_count trainer.check_val_every_n_epoch
        trainer.log_every_n_steps logger.csv.flush_logs_every_n_steps evaluation.dynamic.statistics.windows
        hydra.launcher.timeout_min""",
    _whole(1, 2**31 - 1): "model.embedding.cutoffs model.head.cutoffs model.head.num_frequent model.head.num_sampled",
    _whole(1, 10**12): "evaluation.tune_tokens",
    _whole(3, 2**31 - 1): "data.max_size",
    Range(0, 10**9, whole=True, fraction=True): """
        trainer.limit_train_batches trainer.limit_val_batches trainer.limit_test_batches trainer.limit_predict_batches
        trainer.overfit_batches""",
    Range(1, 10**9, whole=True, fraction=True, text=True): "trainer.val_check_interval",
    # real numbers
    Range(1, 10**12, text=True): "model.num_params",  # see `lm.config.num_params`
    Range(0, 1): "optimizer.dampening hydra.sweeper.max_failure_rate",
    Range(0, 1, above=True): "min_p top_p optimizer.eps",
    Range(0, 1, below=True): """
        model.core.dropout model.core.layer_dropout model.core.input_dropout model.core.weight_dropout
        model.core.state_dropout model.core.attention_dropout model.output_dropout model.embedding_dropout
        optimizer.betas optimizer.momentum scheduler.warmup_ratio scheduler.flat_ratio scheduler.annealing_ratio
        scheduler.base_momentum scheduler.max_momentum averaging.decay averaging.start_ratio
        model.head.latent_dropout regularizer.label_smoothing.epsilon
        evaluation.cache.interpolation_weight evaluation.cache.candidates.interpolation_weight evaluation.dynamic.decay
        evaluation.dynamic.candidates.decay""",
    Range(0, 100): "length_penalty",
    Range(0, 1000): "evaluation.cache.theta evaluation.cache.candidates.theta callbacks.early_stopping.min_delta",
    Range(0, 10**6): """
        optimizer.weight_decay regularizer.ar.alpha regularizer.tar.beta regularizer.l2.weight
        regularizer.z_loss.coefficient""",
    Range(0, 10**6, above=True): """
        train_minutes callbacks.resumable_checkpoint.every_n_minutes optimizer.lr trainer.gradient_clip_val
        trainer.strategy.timeout_minutes evaluation.dynamic.lr evaluation.dynamic.candidates.lr
        evaluation.dynamic.statistics.epsilon""",
    Range(0, 10**12, above=True): "scheduler.div_factor scheduler.final_div_factor",
    Range(1e-6, 1e6): """
        temperature callbacks.sample_text.temperature
        evaluation.temperature evaluation.temperatures""",  # outside, log-probabilities divided by it overflow
    Range(1, 10**6): "repetition_penalty model.embedding.div_value model.head.div_value",
    Range(1, 10**6, above=True): "scheduler.factor",
}
RANGES = {key: allowed for allowed, keys in _KEYS.items() for key in keys.split()}


def check_ranges(config: DictConfig, skip: Collection[str] = ()) -> None:
    """Check every number of a composed config against its range, but for the keys to `skip`; null passes."""
    for key in (key for key in RANGES if key not in skip):
        value = OmegaConf.select(config, key)
        values = list(value) if OmegaConf.is_list(value) else [value]
        if key.endswith(".devices") and OmegaConf.is_list(value):  # listed by their indices instead of counted
            if not values or len({*values}) < len(values) or not all(_whole(0, 1023).has(each) for each in values):
                raise UserError(f"{key}={values} given, but a list of devices must have different indices from 0 on.")
            continue
        for each in values:
            if each is not None and not RANGES[key].has(each):
                text = str(each)
                shown = text if len(text) < 50 else f"{text[:20]}..."
                kind = "a number, " if isinstance(each, str) and not RANGES[key].whole else ""
                raise UserError(f"{key}={shown} given, but it must be {kind}{RANGES[key]}.")
