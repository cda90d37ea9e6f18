"""Learning curves: the mean and spread of seeds, and lines that can be told apart."""

import math

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from lm.plots.learning_curves import COLOURS, STYLES, learning_curves, mean_curve, wrapped


def test_seeds_with_validations_at_the_same_steps_have_their_mean_and_sample_deviation():
    x, mean, std = mean_curve([[(1, 5.0), (2, 4.0)], [(1, 6.0), (2, 4.0)], [(1, 7.0), (2, 1.0)]])
    assert x.tolist() == [1, 2]
    assert mean.tolist() == [6, 3]
    assert std == pytest.approx([1, math.sqrt(3)])


def test_seeds_are_interpolated_and_compared_only_where_all_of_them_are():
    x, mean, _ = mean_curve([[(0, 6.0), (4, 2.0)], [(1, 5.0), (3, 5.0), (9, 0.0)]])
    assert x.tolist() == [1, 3, 4]
    assert mean.tolist() == pytest.approx([5, 4, (2 + 5 - 5 / 6) / 2])


def test_one_run_has_no_band_and_runs_apart_still_have_a_point():
    _, _, std = mean_curve([[(1, 5.0), (2, 4.0)]])
    assert std.tolist() == [0, 0]
    assert [len(each) for each in mean_curve([[(1, 5.0)], [(2, 4.0)]])] == [1, 1, 1]


def test_lines_are_perplexities_on_a_log_scale_each_in_a_colour_or_style_of_its_own():
    lines = {f"model={i}": [[(1, 6.0), (2, 5.0 - i / 10)]] for i in range(len(COLOURS) * len(STYLES))}
    figure = learning_curves(lines, "minutes")
    [axis] = figure.axes
    assert axis.get_yscale() == "log"
    assert len({(line.get_color(), line.get_linestyle()) for line in axis.lines}) == len(lines)
    assert axis.lines[0].get_ydata() == pytest.approx(np.exp([6, 5]))
    [legend] = figure.legends
    named = [text.get_text() for text in legend.get_texts()]
    assert named == list(lines)  # in the order of their right ends, from above


def test_colours_differ_in_lightness_from_the_white_background_and_labels_are_no_formulas():
    for colour in COLOURS:
        luminance = np.dot(to_rgb(colour), (0.2126, 0.7152, 0.0722))
        assert luminance < 0.75
    figure = learning_curves({"lr=$x_1$ \x07": [[(1, 2.0)]]}, "steps")
    figure.draw_without_rendering()
    assert figure.legends[0].get_texts()[0].get_text() == "lr=$x_1$ □"
    assert to_rgb(figure.get_facecolor()) == (1, 1, 1)


def test_a_long_label_is_wrapped_and_ends_visibly():
    name = " ".join(f"model.core.option_{i}={i}" for i in range(30))
    lines = wrapped(name).splitlines()
    assert name.startswith(" ".join(lines).removesuffix(" …")) and lines[-1].endswith(" …")
    assert len(lines) == 4 and max(map(len, lines)) <= 60
    assert wrapped("model=lstm optimizer.lr=0.01") == "model=lstm optimizer.lr=0.01"
