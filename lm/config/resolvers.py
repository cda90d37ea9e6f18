"""The functions that conf/ calls as `${name:}`; importing this module registers them."""

from omegaconf import OmegaConf

from lm.config.launch import run_name


def _fast_precision(accelerator: str) -> str:
    """`precision: ${fast_precision:cpu}` in a config; see `lm.ops.fast_precision`."""
    from lm.ops import fast_precision

    return fast_precision(accelerator)


def _help(script: str) -> str:
    """`template: ${help:train}` in a config."""
    from lm.config.help import help_text

    return help_text(script)


OmegaConf.register_new_resolver("help", _help, replace=True)
OmegaConf.register_new_resolver("fast_precision", _fast_precision, replace=True)
OmegaConf.register_new_resolver("run_name", run_name, use_cache=True, replace=True)  # cached: always the same
