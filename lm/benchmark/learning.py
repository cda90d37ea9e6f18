"""Validation loss over training time: how much sooner a side is as good as the plain loop after its epochs."""

from collections.abc import Sequence
from itertools import accumulate, cycle
from typing import Any

from matplotlib.figure import Figure

from lm.benchmark.race import Side, started, step
from lm.evaluation.perplexity import perplexity
from lm.plots.log_scale import log_ticks


def learn(sides: Sequence[Side], rounds: int) -> None:
    """Run each side alone: the first for `rounds` steps, the others until they are as good or have had its time.

    A step answers with its seconds of training and the validation loss in nats afterwards.
    """
    for side in sides:
        with started([side]) as [line]:
            while len(side.answers) < rounds if side is sides[0] else _is_behind(side, sides[0]):
                step(side, line)


def _is_behind(side: Side, first: Side) -> bool:
    target = first.answers[-1][1]
    return not side.answers or (side.answers[-1][1] > target and seconds(side)[-1] < seconds(first)[-1])


def seconds(side: Side) -> list[float]:
    """The training time until each validation."""
    return list(accumulate(each for each, _ in side.answers))


def seconds_to(side: Side, nats: float) -> float | None:
    """The training time until a validation loss is reached, interpolated between validations; None if it is not."""
    times = seconds(side)
    for i, (_, loss) in enumerate(side.answers):
        if loss <= nats:
            if i == 0:
                return times[0]
            before = side.answers[i - 1][1]
            return times[i - 1] + (before - nats) / (before - loss) * (times[i] - times[i - 1])
    return None


def rows(work: str, model: str, sides: Sequence[Side]) -> list[dict[str, Any]]:
    """For each side the time to the first side's last perplexity, its own last one, and its whole curve."""
    target = sides[0].answers[-1][1]
    result = []
    for side in sides:
        reached = seconds_to(side, target)
        result.append(
            {
                "work": work,
                "model": model,
                "side": side.name,
                "seconds": seconds(side)[-1],
                "perplexity": perplexity(side.answers[-1][1]),
                "seconds_to_first": reached,
                "times_sooner": reached and seconds(sides[0])[-1] / reached,
                "curve": [
                    (time, perplexity(loss)) for time, (_, loss) in zip(seconds(side), side.answers, strict=True)
                ],
            }
        )
    return result


def curves(rows: Sequence[dict[str, Any]]) -> Figure:
    """Validation perplexity over minutes of training, a line for each side."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axis = figure.subplots()
    for row, marker in zip(rows, cycle("os^Dv*"), strict=False):
        times, perplexities = zip(*row["curve"], strict=True)
        axis.plot([time / 60 for time in times], perplexities, marker=marker, label=row["side"])
    axis.axhline(rows[0]["perplexity"], color="black", linewidth=0.8, linestyle=":")
    axis.set(xscale="log", yscale="log", xlabel="minutes of training", ylabel="validation perplexity")
    for each in (axis.xaxis, axis.yaxis):
        log_ticks(each, (1, 2, 3, 5))
    axis.legend()
    return figure
