"""Word-level language models on Wikitext-2, with Lightning and Hydra."""

from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from lm.launch import run_name

if TYPE_CHECKING:
    from lm.language_model import LanguageModel

__all__ = ["LanguageModel"]


def _fast_precision(accelerator: str) -> str:
    """`precision: ${fast_precision:cpu}` in a config; see `lm.ops.fast_precision`."""
    from lm.ops import fast_precision

    return fast_precision(accelerator)


OmegaConf.register_new_resolver("fast_precision", _fast_precision, replace=True)
OmegaConf.register_new_resolver("run_name", run_name, use_cache=True, replace=True)  # once, and then the same


def __getattr__(name: str) -> Any:
    """Import torch only when it is used, so that `--help` answers at once."""
    if name == "LanguageModel":
        from lm.language_model import LanguageModel

        return LanguageModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
