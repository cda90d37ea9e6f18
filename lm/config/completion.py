"""Shell completion, by Hydra, of the keys that a user sets."""

import re
from typing import Any

from hydra.plugins.completion_plugin import CompletionPlugin

INSTANTIATION_KEY = re.compile(r"(^|\.)_\w+_=")  # such as optimizer._target_=

_all_matches = CompletionPlugin._get_matches


def hide_instantiation_keys() -> None:
    """Let completion leave out the keys that tell `hydra.utils.instantiate` what to make."""
    CompletionPlugin._get_matches = staticmethod(_matches)  # type: ignore[method-assign]


def _matches(config: Any, word: str) -> list[str]:
    return [match for match in _all_matches(config, word) if not INSTANTIATION_KEY.search(str(match))]
