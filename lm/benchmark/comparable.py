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
OPTIMIZER = {"_target_": "lm.training.optimizers.SGD", "momentum": 0, "weight_decay": 0}


def check_comparable(config: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Refuse a training config whose model or optimizer the plain loop does not have.

    Args:
        config: in primitive types.
        overrides: that made it, to name in the message.
    """
    given, model, core = (
        f"{' '.join(overrides)} given, but the plain loop has",
        config["model"],
        config["model"]["core"],
    )
    if core["_target_"] not in CORES:
        raise UserError(f"{given} no {core['_target_']}: choose among {', '.join(CORES)}.")
    required = CORES[core["_target_"]]
    if "num_heads" in core:
        required = required | {"hidden_size": model["embedding"]["embedding_size"]}
    parts = {"model.core": (core, required), "model": (model, MODEL), "optimizer": (config["optimizer"], OPTIMIZER)}
    for path, (values, plain) in parts.items():
        for key, value in plain.items():
            if values[key] != value:
                raise UserError(f"{given} only {path}.{key}={value}, not {values[key]}.")
