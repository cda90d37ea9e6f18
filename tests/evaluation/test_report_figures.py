"""The table and the figures of an evaluation's report."""

from lm.evaluation.report import distinct, overview, print_report, rows_to_plot


def row(name: str, loss: float) -> dict:
    bins = [{"first": 1, "last": 10, "ppl": 2.0, "tokens": 5}, {"first": 11, "last": None, "ppl": loss, "tokens": 5}]
    counts = {"tokens": 10, "seconds": 1.0, "tokens_per_second": 10.0}
    scores = {"name": name, "values": {}, "loss": loss, "ppl": loss}
    return scores | counts | {"by_frequency_rank": bins, "by_position_in_window": bins}


def test_the_table_has_names_as_they_are_with_brackets_too(capsys):
    print_report([row("run[a]", 9.0), row("run[/b]", 8.0) | {"values": {"run[a]": 0.5}}])
    printed = capsys.readouterr().out
    assert printed.count("run[a]") == 4
    assert printed.count("run[/b]") == 3


def test_equal_results_are_drawn_once_under_the_first_name():
    rows = distinct([row("model", 9.0), row("dynamic", 7.0), row("dynamic, temperature", 7.0), row("cache", 8.0)])
    assert [each["name"] for each in rows] == ["model", "dynamic", "cache"]


def test_the_legend_stands_outside_the_panels():
    figure = overview([row("model", 9.0), row("dynamic", 7.0)])
    figure.draw_without_rendering()
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["model", "dynamic"]
    left = legend.get_window_extent().x0
    assert all(axis.get_window_extent().x1 <= left for axis in figure.axes)
    assert not overview([row("model", 9.0)]).legends


def test_lines_are_of_single_methods_and_of_the_best_result():
    rows = [row("model", 9.0), row("dynamic", 8.0), row("dynamic, cache", 6.0), row("mixture, dynamic", 7.0)]
    assert [each["name"] for each in rows_to_plot(rows)] == ["model", "dynamic", "dynamic, cache"]
