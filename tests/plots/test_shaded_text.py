"""The shaded text: every word is there, as dark as it is surprising, with what was expected below."""

import warnings
from itertools import pairwise

import pytest
from matplotlib import colormaps

from lm.language_model import Score
from lm.plots import save_figure, shaded_text
from lm.plots.shaded_text import HIGHEST, WIDTH


def score(words, likeliest=()):
    log_probs = [-HIGHEST * i / len(words) for i in range(len(words))]
    return Score(words, [word != "zebra" for word in words], log_probs, [list(likeliest)] * len(words))


def test_words_stand_in_order_shaded_by_surprise_and_unknown_ones_are_framed():
    axes = shaded_text([score(["the", "zebra", "$5"])]).axes[0]
    assert [text.get_text() for text in axes.texts] == ["the", "zebra", r"\$5"]
    for i, patch in enumerate(axes.patches):
        assert patch.get_facecolor() == pytest.approx(colormaps["YlOrRd"](i / 3), abs=0.01)
    assert [patch.get_linestyle() == "--" for patch in axes.patches] == [False, True, False]


def test_the_likeliest_words_stand_below_each_with_their_probability():
    axes = shaded_text([score(["a", "b"], [("the", -0.6931), ("of", -2.302585)])]).axes[0]
    texts = [(text.get_text(), text.get_position()) for text in axes.texts]
    assert [text for text, _ in texts] == ["a", "the 50%", "of 10%", "b", "the 50%", "of 10%"]
    (_, (word_left, word_top)), (_, (left, top)), (_, (_, below)) = texts[:3]
    assert left == word_left
    assert word_top < top < below


def test_long_lines_are_broken_and_nothing_overlaps_or_is_lost():
    words = [f"word{i}" for i in range(200)]
    axes = shaded_text([score(words, [("something", -1.0)]), score(["end"])]).axes[0]
    places = [(patch.get_y(), patch.get_x(), patch.get_x() + patch.get_width()) for patch in axes.patches]
    assert len(places) == 201
    for (top, _, right), (next_top, left, _) in pairwise(places):
        assert (next_top == top and left >= right) or (next_top > top and left == 0)
    assert max(right for _, _, right in places) <= WIDTH


def test_words_of_any_script_and_length_are_drawn_without_a_warning(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="Glyph")  # which `lm.plots` silences, where pytest does not undo it
        save_figure(shaded_text([score(["北京", "שלום", "x" * 300, "^_{$"])]), tmp_path / "x.png")


def test_an_empty_line_is_drawn():
    assert shaded_text([Score([], [], [], [])]).axes
