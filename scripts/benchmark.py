"""Measure how much faster this is than a plain PyTorch loop, on this machine."""

if __name__ == "__main__":
    from lm.config.signals import handle_signals

    handle_signals()  # before the imports, which take a second

import hydra
from omegaconf import DictConfig

from lm.config.cli import one_line_errors
from lm.config.command_line import prepare_command_line


def benchmark(config: DictConfig) -> list[dict]:
    """Run the races that `config` asks for, print and write what they came to, and return the rows."""
    from rich.console import Console

    from lm.benchmark.plan import races
    from lm.benchmark.race import race
    from lm.benchmark.report import chart, machine, rows, table
    from lm.plots import save_figure
    from lm.training.results import write_json

    console = Console()
    found: list[dict] = []
    for each in list(races(config)):
        console.print(f"{each.work} {each.model}: {', '.join(side.name for side in each.sides)}", style="dim")
        found += rows(each, race(each.sides, each.rounds, each.steps))
        write_json({"machine": machine(), "rows": found}, f"{config.out}.json")
    save_figure(chart(found), f"{config.out}.png")
    console.print(table(found))
    console.print(f"on {machine()}; written to {config.out}.json and {config.out}.png", soft_wrap=True, markup=False)
    return found


@hydra.main(version_base="1.3", config_path="../conf", config_name="benchmark")
@one_line_errors
def main(config: DictConfig) -> None:
    """Run the benchmark."""
    benchmark(config)


if __name__ == "__main__":
    prepare_command_line()
    main()
