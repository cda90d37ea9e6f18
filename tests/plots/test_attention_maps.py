"""Attention maps: a panel for each layer and head."""

import numpy as np
import torch

from lm.plots import attention_maps, save_figure


def test_each_panel_shows_its_layer_and_head_and_leaves_the_future_out():
    weights = torch.rand(2, 3, 4, 4)
    *panels, colour_bar = attention_maps(weights, ["<eos>", "a", "$b", "c"]).axes
    assert len(panels) == 6
    assert colour_bar.get_ylabel().startswith("attention weight")
    for i, panel in enumerate(panels):
        shown = panel.images[0].get_array()
        np.testing.assert_array_equal(shown.filled(0), weights[i // 3, i % 3].tril())
        np.testing.assert_array_equal(shown.mask, ~np.tri(4, dtype=bool))
        assert panel.get_title() == f"layer {i // 3 + 1}, head {i % 3 + 1}"
    for words in (panels[3].get_xticklabels(), panels[3].get_yticklabels()):
        assert [word.get_text() for word in words] == ["<eos>", "a", "$b", "c"]


def test_words_that_look_like_mathematics_or_a_single_one_are_drawn(tmp_path):
    for words in (["$x^$"], ["<eos>", "$\\frac"]):
        weights = torch.ones(1, 1, len(words), len(words))
        assert save_figure(attention_maps(weights, words), tmp_path / "x.png").exists()


def test_many_heads_still_make_a_picture_of_a_size_that_one_can_open():
    width, height = attention_maps(torch.rand(9, 12, 100, 100), ["word"] * 100).get_size_inches()
    assert max(width, height) < 50
