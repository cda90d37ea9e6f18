"""Measure how much faster this is than a plain PyTorch loop, on this machine."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from lm.config.script import imported, script_main
from lm.errors import UserError

if TYPE_CHECKING:
    from lm.benchmark.race import Side

UNITS = {
    "train": "training step",
    "loss": "loss of a step",
    "learn": "validation perplexity",
    "evaluate": "evaluation window",
    "generate": "word, one text",
    "streams": "word, many texts",
    "read": "corpus ready",
    "cutoffs": "adaptive softmax",
}
TYPED = ("accelerator", "work", "only", "rounds", "steps", "words", "streams", "chunks")


def benchmark(config: DictConfig) -> list[dict]:
    """Run the races that `config` selects, print and write the results, and return the rows."""
    import torch
    from rich.console import Console

    from lm.benchmark import cutoffs, learning
    from lm.benchmark.race import race
    from lm.benchmark.report import chart, machine, rows, table
    from lm.files.atomic import check_writable
    from lm.plots import save_figure
    from lm.training.results import write_json

    imported()
    for ending in ("json", "png"):
        check_writable(f"{config.out}.{ending}")
    console = Console()
    done: list[dict] = []
    timed: list[dict] = []
    runs = list(races(config))
    on = machine(torch.device("cuda" if config.accelerator == "gpu" else "cpu"))
    for work, model, sides in runs:
        console.print(f"{work} {model}: {', '.join(side.name for side in sides)}", style="dim", markup=False)
        if work == "learn":
            learning.learn(sides, config.learn.rounds)
            found = learning.rows(UNITS[work], model, sides)
        elif work == "cutoffs":
            found = cutoffs.rows(UNITS[work], model, sides[0].config, config.rounds)
        else:
            rounds, steps = {"generate": (1, config.words), "read": (config.rounds, 1)}.get(
                work, (config.rounds, config.steps)
            )
            race(sides, rounds, steps)
            found = list(rows(UNITS[work], model, sides))
            timed += found
        console.print(table(found))
        done += found
        write_json({"machine": on, "rows": done}, f"{config.out}.json")
        if work == "learn":
            save_figure(learning.curves(found), f"{config.out}.{model}.png")
    if timed:
        save_figure(chart(timed), f"{config.out}.png")
    console.print(f"on {on}; written to {config.out}.json", soft_wrap=True, markup=False)
    return done


def races(config: DictConfig) -> Iterator[tuple[str, str, list["Side"]]]:
    """For each race its work, its model and its sides, the one that the others are compared with first."""
    from lm.benchmark.training_config import check_typed_data
    from lm.config.checks import at_least, one_of
    from lm.config.validation import check_arguments

    check_arguments(_types, {name: config[name] for name in TYPED})
    at_least(1, rounds=config.rounds, steps=config.steps, words=config.words, streams=config.streams)
    at_least(1, **{f"chunks[{i}]": size for i, size in enumerate(config.chunks)})
    for key in ("work", "only"):
        if config[key] is not None and not config[key]:
            raise UserError(f"{key}=[] given, but then there is nothing to run: name some, or leave {key} out.")
    check_arguments(_learn_types, config.learn)
    at_least(1, **config.learn)
    one_of(("cpu", "gpu"), accelerator=config.accelerator)
    for work in config.work:
        one_of(UNITS, work=work)
    check_typed_data(any_words=list(config.work) == ["cutoffs"])
    models = list(config.models) if config.only is None else config.only
    for model in models:
        one_of(config.models, only=model)
    for work in config.work:
        for model in models if work != "read" else [""]:
            yield work, model, sides_of(work, config, config.models.get(model))


def _types(
    accelerator: str,
    work: list[str],
    only: list[str] | None,
    rounds: int,
    steps: int,
    words: int,
    streams: int,
    chunks: list[int],
) -> None:
    """The types of a benchmark's config."""


def _learn_types(steps: int, windows: int, rounds: int) -> None:
    """The types of what `learn` takes."""


def sides_of(work: str, config: DictConfig, model: DictConfig | None) -> list["Side"]:
    """The sides of one race; `model` names its overrides, and its sides where it trains or evaluates."""
    from lm.benchmark.comparable import check_comparable
    from lm.benchmark.race import Side
    from lm.benchmark.report import LIMIT
    from lm.benchmark.training_config import training_config

    overrides = model.overrides if model else []
    base = training_config(config, overrides)
    if work == "streams":
        many = {**base, "num_samples": config.streams}
        return [
            Side("1 stream", "lm.benchmark.ours.generate", base),
            Side(f"{config.streams} streams", "lm.benchmark.ours.generate", many, per_step=config.streams),
        ]
    if work == "cutoffs":
        adaptive = training_config(config, [*overrides, *config.sides.adaptive], any_words=True)
        if "cutoffs" not in adaptive["model"]["head"]:
            raise UserError(
                f"sides.adaptive={config.sides.adaptive} given, but work=cutoffs is for an adaptive softmax."
            )
        return [Side("adaptive", "", adaptive)]
    if work == "loss":
        chunks = {"torch": base, **{f"torch in chunks of {n}": {**base, "chunk": n} for n in config.chunks}}
        return [
            Side("plain", "lm.benchmark.losses.plain", base),
            *(Side(name, "lm.benchmark.losses.torch_chunked", each) for name, each in chunks.items()),
            Side("fast", "lm.benchmark.losses.fast", base),
        ]
    if work in ("train", "evaluate", "learn"):
        assert model
        ours = {name: training_config(config, [*overrides, *config.sides[name]]) for name in model.sides}
    else:
        ours = {"cached" if work == "read" else "fast": base}
    if work != "read":
        check_comparable(base, overrides)
    sides = [Side("plain", f"lm.benchmark.plain.{work}", base)]
    sides += [Side(name, f"lm.benchmark.ours.{work}", each) for name, each in ours.items()]
    exact = [name for name, each in ours.items() if each["model"]["head"]["_target_"] == "lm.models.SoftmaxHead"]
    if work == "train":
        sides += [Side(name + LIMIT, "lm.benchmark.limits.train", ours[name]) for name in exact]
    return sides


main = script_main("benchmark", benchmark)

if __name__ == "__main__":
    main()
