"""Which races there are to run."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hydra import compose
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lm.benchmark.race import Side
from lm.config.checks import at_least, one_of
from lm.config.validation import check_arguments

WORKS = ("train", "evaluate", "generate", "streams", "read")
YARDSTICKS_TEXT = {"min_count": 1, "max_size": None, "bptt_jitter": False, "trim_evaluation": False}
PARTS = ["seed", "data", "model", "optimizer", "scheduler", "trainer"]
PLAIN, OURS = "lm.benchmark.plain", "lm.benchmark.ours"


@dataclass(frozen=True)
class Race:
    """Sides that do the same work, the yardstick first, and how often they take turns of how many steps."""

    work: str
    model: str
    sides: Sequence[Side]
    rounds: int
    steps: int


def races(config: DictConfig) -> Iterator[Race]:
    """The races that a benchmark's config asks for.

    Raises:
        UserError: if it names unknown work or models, or a count is below 1.
    """
    check_arguments(_typed, {name: config[name] for name in ("work", "only", "rounds", "steps", "words", "streams")})
    at_least(1, rounds=config.rounds, steps=config.steps, words=config.words, streams=config.streams)
    for work in config.work:
        one_of(WORKS, work=work)
    chosen = list(config.models) if config.only is None else config.only
    for name in chosen:
        one_of(list(config.models), only=name)
    for work in config.work:
        if work == "read":
            parts = _parts(config, ["model=lstm"])
            yield Race(work, "", _sides("Reading", parts, {"cached": parts}), config.rounds, steps=1)
            continue
        for name in chosen:
            model = config.models[name]
            yardstick = _parts(config, model.overrides)
            sides = {side: _parts(config, [*model.overrides, *config.sides[side]]) for side in model.sides}
            yield _race(config, work, name, yardstick, sides)


def _typed(work: list[str], only: list[str] | None, rounds: int, steps: int, words: int, streams: int) -> None:
    """What a benchmark's config may hold."""


def _race(
    config: DictConfig, work: str, model: str, yardstick: dict[str, Any], sides: dict[str, dict[str, Any]]
) -> Race:
    if work == "train":
        return Race(work, model, _sides("Training", yardstick, sides), config.rounds, config.steps)
    if work == "evaluate":
        return Race(work, model, _sides("Evaluation", yardstick, sides), config.rounds, config.steps)
    if work == "generate":
        return Race(work, model, _sides("Generation", yardstick, {"fast": yardstick}), 1, config.words)
    one = Side("1 stream", f"{OURS}.Generation", yardstick)
    many = Side(f"{config.streams} streams", one.contender, yardstick | {"streams": config.streams}, config.streams)
    return Race(work, model, [one, many], config.rounds, config.steps)


def _sides(contender: str, yardstick: dict[str, Any], sides: dict[str, dict[str, Any]]) -> list[Side]:
    plain = Side("plain", f"{PLAIN}.{contender}", yardstick)
    return [plain, *(Side(name, f"{OURS}.{contender}", parts) for name, parts in sides.items())]


def _parts(config: DictConfig, overrides: Sequence[str]) -> dict[str, Any]:
    """A training config for this data in primitive types, with the files of the text."""
    training = compose("train", ["scheduler=constant", *overrides])
    training.data = {**config.data, **YARDSTICKS_TEXT}
    data = instantiate(config.data)
    files = data.source(data.root)
    parts = OmegaConf.to_container(OmegaConf.masked_copy(training, PARTS), resolve=True)
    assert isinstance(parts, dict)
    return {**parts, "files": list(map(str, files)), "streams": 1}
