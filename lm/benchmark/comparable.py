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
TRAINER = {"accumulate_grad_batches": 1, "gradient_clip_algorithm": "norm"}
PRECISIONS = ("32-true", "bf16-mixed")  # of all sides, see `lm.benchmark.limits.gflops`


def check_precision(precision: object, overrides: Sequence[str]) -> None:
    """Refuse a precision that the rate of products is not measured in."""
    if precision not in PRECISIONS:
        allowed = " or ".join(PRECISIONS)
        raise UserError(
            f"{' '.join(overrides)} given, but a side has only trainer.precision={allowed}, not {precision}."
        )


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
        ("trainer", config["trainer"], TRAINER),
    ):
        for key, value in plain.items():
            if (own := values.get(key, value)) != value:
                raise UserError(f"{given} only {path}.{key}={value}, not {own}.")
    if config["trainer"]["gradient_clip_val"] is None:
        raise UserError(f"{given} only gradients that are clipped: give trainer.gradient_clip_val a number.")
