"""Word-level language models on Wikitext-2, with Lightning and Hydra."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lm.language_model import LanguageModel
    from lm.training.from_python import train

__all__ = ["LanguageModel", "train"]


def __getattr__(name: str) -> Any:
    """Import torch only when it is used, so that `--help` answers at once."""
    if name == "LanguageModel":
        from lm.language_model import LanguageModel

        return LanguageModel
    if name == "train":
        from lm.training.from_python import train

        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
