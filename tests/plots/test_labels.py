"""Words as labels: short, and in glyphs that there are."""

from lm.plots.labels import label


def test_a_long_word_is_cut():
    assert label("a" * 16) == "a" * 16
    assert label("a" * 30, 10) == "a" * 9 + "…"


def test_a_box_stands_for_what_the_font_lacks_or_nobody_sees():
    assert label("a北b\x07$") == "a□b□$"
    assert label("שלום") == "שלום"
