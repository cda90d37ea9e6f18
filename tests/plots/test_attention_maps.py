"""Attention maps: a panel for each layer and head."""

import numpy as np
import torch

from lm.plots import attention_maps


def test_each_panel_shows_its_layer_and_head():
    weights = torch.rand(2, 3, 4, 4)
    *panels, _ = attention_maps(weights, ["<eos>", "a", "$b", "c"]).axes
    assert len(panels) == 6
    for i, panel in enumerate(panels):
        np.testing.assert_array_equal(panel.images[0].get_array(), weights[i // 3, i % 3])
        assert panel.get_title() == f"layer {i // 3 + 1}, head {i % 3 + 1}"
        assert [label.get_text() for label in panel.get_xticklabels()] == ["<eos>", "a", r"\$b", "c"]
