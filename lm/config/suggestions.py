"""What may have been meant by an unknown name: the most similar one that is known."""

from collections.abc import Iterable
from difflib import SequenceMatcher
from typing import NoReturn

from hydra.core.override_parser.types import Override

from lm.errors import UserError


def refuse_unknown(override: Override, key: str, known: Iterable[str]) -> NoReturn:
    """Refuse an override because of its unknown `key`, with the most similar of the known ones."""
    given = f"{override.input_line} given, but " if override.input_line != key else ""
    near = nearest(key, [each for each in known if each.startswith("hydra.") == key.startswith("hydra.")])
    raise UserError(f"{given}{key} is unknown: {f'did you mean {near}?' if near else '--help lists all keys.'}")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most similar to `name`, as a whole and in its last part."""

    def likeness(candidate: str) -> list[float]:
        pairs = (name.lower(), candidate.lower()), (last_part(name.lower()), last_part(candidate.lower()))
        return [SequenceMatcher(None, *pair).ratio() for pair in pairs]

    names = [each for each in known if not last_part(each).startswith("_")]
    best = max(names, key=lambda each: sum(likeness(each)), default=None)
    return best if best is not None and max(likeness(best)) >= 0.6 else None


def last_part(path: str) -> str:
    """What stands after the last dot of a key."""
    return path.rpartition(".")[2]
