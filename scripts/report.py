"""Tabulate training runs, those that differ in the seed alone as one, and draw their validation perplexities."""

import sys
from pathlib import Path

from omegaconf import DictConfig

from lm.config.script import imported, script_main
from lm.errors import UserError


def report(config: DictConfig) -> str:
    """Read the runs that `config` names, print and write their table, draw their curves, and return the table."""
    from lm.checkpoints.find import listed_paths
    from lm.config.checks import one_of
    from lm.files.atomic import check_writable
    from lm.files.text import visible, write_text
    from lm.training.report import AXES, curves, markdown, not_drawn, read_runs
    from lm.training.runs import groups_of

    if config.plot:  # matplotlib takes a third of a second to import
        from lm.plots import check_format, learning_curves, save_figure

        check_format(config.plot)
        check_writable(config.plot)
    imported()
    one_of(AXES, x=config.x)
    if config.out:
        check_writable(config.out)
    rows, mistakes = read_runs(Path(each).expanduser() for each in listed_paths("runs", config.runs))
    for mistake in mistakes:
        print(visible(mistake), file=sys.stderr)
    if not rows:
        raise UserError(f"runs={config.runs} given, but no run can be read there: give folders of scripts/train.py.")
    if len(texts := sorted({row["text"] for row in rows})) > 1:
        names = ", ".join(texts)
        print(f"{len(texts)} texts, whose perplexities cannot be compared: {names}.", file=sys.stderr)
    groups = groups_of(rows)
    table = markdown(rows, groups)
    print(table, end="")
    if config.out:
        print(f"table: {write_text(table, config.out)}", file=sys.stderr)
    if config.plot:
        lines = curves(rows, groups, config.x)
        if without := not_drawn(rows, config.x):
            print(f"Not drawn, without validations over {config.x}: {' '.join(without)}", file=sys.stderr)
        if not lines:
            raise UserError(f"plot={config.plot} given, but no run can be drawn over x={config.x}: try x=steps.")
        print(f"figure: {save_figure(learning_curves(lines, AXES[config.x][1]), config.plot)}", file=sys.stderr)
    return table


main = script_main("report", report)

if __name__ == "__main__":
    main()
