"""Word-level language models on Wikitext-2, with Lightning and Hydra."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lm.language_model import LanguageModel

__all__ = ["LanguageModel"]


def __getattr__(name: str) -> Any:
    """Import torch only when it is used, so that `--help` answers at once."""
    if name == "LanguageModel":
        from lm.language_model import LanguageModel

        return LanguageModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
