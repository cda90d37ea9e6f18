"""Measure how much faster this is than a plain PyTorch loop, on this machine."""

from omegaconf import DictConfig

from lm.config.script import script_main


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


main = script_main("benchmark", benchmark)

if __name__ == "__main__":
    main()
