"""Surprisal texts: every word is there, shaded by its surprisal, with the most probable words below."""

import json
import math
import re
import warnings
from html import unescape
from itertools import pairwise

import pytest
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg

from lm.plots import SurprisalText, save_figure, surprisal_html, surprisal_text
from lm.plots.surprisal_text import CANDIDATES, COLUMNS, MAX_SURPRISAL
from lm.score import Score


def score(words, top_log_probs=()):
    log_probs = [-MAX_SURPRISAL * i / len(words) for i in range(len(words))]
    ranks = list(range(1, len(words) + 1))
    return Score(words, [word != "zebra" for word in words], log_probs, ranks, [list(top_log_probs)] * len(words))


def drawn(*scores):
    """The figure's axes, and its texts without the legend."""
    axes = surprisal_text(scores).axes[0]
    return axes, [(text.get_text(), *text.get_position()) for text in axes.texts[1:]]


def test_words_stand_in_order_shaded_by_surprisal_and_unknown_ones_are_framed():
    axes, [_, *texts] = drawn(score(["the", "zebra", "$5"]))
    assert [text for text, *_ in texts] == ["the", "zebra", "$5"]
    for i, patch in enumerate(axes.patches):
        assert patch.get_facecolor() == pytest.approx(colormaps["YlOrRd"](i / 3), abs=0.01)
    assert [patch.get_linestyle() == "dashed" for patch in axes.patches] == [False, True, False]


def test_the_most_probable_words_stand_below_each_with_their_probability_and_the_one_that_came_is_bold():
    top_log_probs = [("the", math.log(0.5)), ("b", math.log(0.1)), ("of", math.log(0.001))]
    axes, [_, *texts] = drawn(score(["a", "b"], top_log_probs))
    assert [text for text, *_ in texts] == ["a", "the 50%", "b 10%", "of <1%", "b", "the 50%", "b 10%", "of <1%"]
    assert {x for _, x, _ in texts[:4]} == {texts[0][1]}
    assert [y for *_, y in texts[:4]] == sorted(y for *_, y in texts[:4])
    assert [text.get_position()[0] for text in axes.texts if text.get_weight() == "bold"] == [texts[4][1]]


def test_each_line_begins_with_its_own_perplexity():
    lines = [score(["a", "b"]), score(["c", "d", "e"])]
    axes, texts = drawn(*lines)
    assert texts[0][0] == f"2 words, {MAX_SURPRISAL / 2:.1f} nats, perplexity {lines[0].perplexity:,.1f}"
    assert texts[3][0].startswith("3 words")
    assert axes.patches[0].get_x() == axes.patches[2].get_x()
    assert axes.patches[0].get_y() < axes.patches[2].get_y()


def test_long_lines_are_broken_and_nothing_overlaps_or_is_lost():
    words = [f"word{i}" for i in range(200)]
    axes, _ = drawn(score(words, [("something", -1.0)]), score(["end"]))
    places = [(patch.get_y(), patch.get_x(), patch.get_x() + patch.get_width()) for patch in axes.patches]
    assert len(places) == 201
    start = places[0][1]
    for (top, _, right), (next_top, left, _) in pairwise(places):
        assert (next_top == top and left > right) or (next_top > top and left == start)
    assert max(right for _, _, right in places) <= COLUMNS
    assert max(top for top, *_ in places) < axes.get_ylim()[0]


def test_every_text_fits_the_cell_that_it_stands_in():
    figure = surprisal_text([score(["iiiiiiii", "WWWWWWWW", "北京", "שלום", "$x_1$"], [("WWWWWW", -0.1)])])
    cells = [patch.get_window_extent() for patch in figure.axes[0].patches]
    renderer = FigureCanvasAgg(figure).get_renderer()
    texts = [text.get_window_extent(renderer) for text in figure.axes[0].texts[2:]]
    for i, text in enumerate(texts):
        assert cells[i // 2].x0 <= text.x0 <= text.x1 <= cells[i // 2].x1


def test_words_of_any_script_and_length_are_drawn_without_a_warning(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_figure(surprisal_text([score(["北京", "שלום", "x" * 300, "^_{$", "\x07"])]), tmp_path / "x.png")


def test_an_empty_line_is_drawn():
    assert surprisal_text([Score([], [], [], [], [])]).axes


def test_the_html_page_has_every_score_as_data_that_cannot_end_its_script_and_loads_nothing():
    words = ["</script><script>alert(1)</script>", "zebra", "\x1b[2J", '"quoted"']
    scores = [score(words, [("<unk>", -0.1), ("&amp;", -9.0)]), score(["end"])]
    page = surprisal_html(scores)
    assert page.count("<script") == page.count("</script") == 1 and "\x1b" not in page
    assert "http" not in page and "src=" not in page
    [data] = re.findall(r"^const scores = (.*);$", page, re.MULTILINE)
    first, second = json.loads(data)
    assert first["words"] == [*words[:2], "\\x1b[2J", words[3]]
    assert first["known"] == [True, False, True, True]
    assert first["ranks"] == [1, 2, 3, 4]
    assert first["log_probs"] == scores[0].log_probs
    assert first["top_log_probs"][0] == [["<unk>", -0.1], ["&amp;", -9.0]]
    assert second["words"] == ["end"]


def test_a_notebook_shows_the_page_in_a_frame_of_its_own():
    frame = SurprisalText([score(['"a"'])])._repr_html_()
    [page] = re.findall(r'<iframe srcdoc="([^"]*)"', frame)
    assert unescape(page) == surprisal_html([score(['"a"'])])


def test_a_saved_figure_has_room_for_a_few_of_the_most_probable_words(tmp_path):
    top = [(f"candidate{i}", -1.0) for i in range(10)]
    path = SurprisalText([score(["a"], top)]).save(tmp_path / "x.svg")
    assert len(re.findall(r"<!-- candidate\d", path.read_text())) == CANDIDATES
