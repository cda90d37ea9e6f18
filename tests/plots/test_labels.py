"""Words as labels: short, and in glyphs that there are."""

import pytest

from lm.plots import labels
from lm.plots.labels import columns, families, label


@pytest.fixture
def only_matplotlibs_font(monkeypatch):
    def clear():
        for cached in (families, labels._is_drawable, labels._warn_once):
            cached.cache_clear()

    monkeypatch.setattr(labels, "FALLBACKS", ())
    clear()
    yield
    clear()


def test_a_long_word_is_cut():
    assert label("a" * 16) == "a" * 16
    assert label("a" * 30, 10) == "a" * 9 + "…"


def test_a_box_stands_for_what_no_font_has_or_nobody_sees_and_one_warning_says_so(only_matplotlibs_font, capsys):
    assert label("a\x07$") == "a□$"
    assert label("שלום") == "שלום"
    assert capsys.readouterr().err == ""
    assert label("a北京b") == "a□□b"
    assert capsys.readouterr().err.count("fonts-noto-cjk") == 1


def test_an_installed_font_with_the_letters_is_used(only_matplotlibs_font, monkeypatch):
    monkeypatch.setattr(labels, "FALLBACKS", ("No Such Font", "DejaVu Serif"))
    families.cache_clear()
    assert families() == ["DejaVu Sans", "DejaVu Serif"]
    assert families("DejaVu Sans Mono") == ["DejaVu Sans Mono", "DejaVu Sans", "DejaVu Serif"]


def test_chinese_letters_are_two_columns_wide():
    assert columns("a北京b") == 6
