"""Whether the plain loop trains the model of a config, so that like is compared with like."""

from collections.abc import Mapping, Sequence
from typing import Any

from lm.errors import UserError

# the cores that the plain loop has, with the options that it has of each
CORES: dict[str, dict[str, Any]] = {
    "lm.models.RecurrentCore": {},
    "lm.models.TransformerCore": {
        "positions": "sinusoidal",
        "norm": "post",
        "activation": "relu",
        "final_norm": None,
        "layer_dropout": None,
        "initialisation": "default",
    },
}
MODEL = {"locked_dropout": False, "embedding_dropout": 0}
EMBEDDING = {"_target_": "lm.models.TokenEmbedding", "pretrained": None}
HEAD = {"_target_": "lm.models.SoftmaxHead"}
OPTIMIZER = {"_target_": "lm.training.optimizers.SGD", "momentum": 0, "weight_decay": 0}
# of the trainer of each side, which is not to stop by itself
TRAINER = {
    "accumulate_grad_batches": 1,
    "gradient_clip_algorithm": "norm",
    "devices": 1,
    "num_nodes": 1,
    "max_steps": -1,
    "max_time": None,
    "limit_train_batches": None,
    "overfit_batches": 0.0,
    "fast_dev_run": False,
}
PRECISIONS = ("32-true", "32", "bf16-mixed")  # in which `lm.benchmark.limits.gflops` measures products


def check_trainer(trainer: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Refuse options of a side's trainer with which its steps are no steps of the plain loop.

    Args:
        trainer: its config.
        overrides: of the side, to name in the message.
    """
    given = f"{' '.join(overrides)} given, but a side has"
    _check_values(given, "trainer", TRAINER | dict(trainer), TRAINER)
    if str(trainer["precision"]) not in PRECISIONS:
        raise UserError(f"{given} only trainer.precision={' or '.join(PRECISIONS)}, not {trainer['precision']}.")
    if not trainer["gradient_clip_val"]:
        raise UserError(f"{given} only gradients that are clipped: give trainer.gradient_clip_val a number above 0.")


def check_comparable(config: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Refuse a training config whose model or optimizer the plain loop does not have.

    Args:
        config: in primitive types.
        overrides: that made it, to name in the message.
    """
    given = f"{' '.join(overrides)} given, but the plain loop has"
    model, core = config["model"], config["model"]["core"]
    if core["_target_"] not in CORES:
        raise UserError(f"{given} no {core['_target_']}: choose among {', '.join(CORES)}.")
    is_transformer, is_tied = "num_heads" in core, model["head"].get("tie_weights")
    width = {"hidden_size": model["embedding"].get("embedding_size")} if is_transformer or is_tied else {}
    for path, values, plain in (
        ("model.embedding", model["embedding"], EMBEDDING),
        ("model.head", model["head"], HEAD),
        ("model.core", core, CORES[core["_target_"]] | width),
        ("model", model, MODEL | {"output_dropout": 0 if is_transformer else core["dropout"]}),
        ("optimizer", config["optimizer"], OPTIMIZER),
    ):
        _check_values(given, path, values, plain)


def _check_values(given: str, path: str, values: Mapping[str, Any], plain: Mapping[str, Any]) -> None:
    for key, value in plain.items():
        if values[key] != value:
            raise UserError(f"{given} only {path}.{key}={value}, not {values[key]}.")
