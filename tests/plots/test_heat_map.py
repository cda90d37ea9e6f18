"""The heat map: what it shows is what the model says."""

import numpy as np
import torch

from lm.plots import heat_map, log_prob_heat_map


def test_a_panel_for_each_text_with_a_row_for_each_position():
    log_probs = [torch.randn(5, 40).log_softmax(-1), torch.randn(3, 40).log_softmax(-1)]
    figure = log_prob_heat_map(log_probs, [["a", "b", "c", "d", "$x_1$"], ["e", "f", "g"]])
    *panels, colour_bar = figure.axes
    assert colour_bar.get_ylabel() == "log-probability (nats)"
    for panel, values in zip(panels, log_probs, strict=True):
        np.testing.assert_allclose(panel.images[0].get_array(), values.numpy())
        assert panel.images[0].get_extent()[:2] == [0, 40]
    assert [label.get_text() for label in panels[1].get_yticklabels()] == ["e", "f", "g"]


def test_token_indices_that_share_a_column_show_the_most_probable():
    panel = np.full((1, 3 * heat_map.COLUMNS - 1), -9.0)
    panel[0, 4] = -1
    pooled = heat_map._pooled(panel)
    assert pooled.shape == (1, heat_map.COLUMNS)
    assert pooled[0, 1] == -1
    assert (np.delete(pooled, 1) == -9).all()
