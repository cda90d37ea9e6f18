"""The heat map: what it shows is what the model says."""

import numpy as np
import torch

from lm.plots import log_prob_heat_map
from lm.plots.heat_map import COLUMNS


def test_a_panel_for_each_text_with_a_row_for_each_position_and_a_ring_on_its_word():
    log_probs = [torch.randn(5, 40).log_softmax(-1), torch.randn(3, 40).log_softmax(-1)]
    targets = [torch.tensor([0, 39, 2, 3, 4]), torch.tensor([7, 8, 9])]
    figure = log_prob_heat_map(log_probs, targets, [["a", "b", "c", "d", "$x_1$"], ["e", "f", "g"]])
    *panels, colour_bar = figure.axes
    assert colour_bar.get_ylabel() == "log-probability (nats)"
    for panel, values, ids in zip(panels, log_probs, targets, strict=True):
        mesh, rings = panel.collections
        np.testing.assert_allclose(mesh.get_array(), values.numpy())
        assert panel.get_xscale() == "log" and panel.get_xlim() == (1, 41)
        left, rows = rings.get_offsets().T
        assert left.astype(int).tolist() == (ids + 1).tolist()
        assert rows.tolist() == list(range(len(ids)))
    assert [label.get_text() for label in panels[1].get_yticklabels()] == ["e", "f", "g"]


def test_words_that_share_a_column_show_the_most_probable():
    size = 50_000
    panel = torch.full((1, size), -9.0)
    panel[0, size - 2] = -1
    mesh = log_prob_heat_map([panel], [torch.tensor([0])], [["a"]]).axes[0].collections[0]
    [row] = mesh.get_array()
    assert len(row) <= COLUMNS
    assert row[-1] == -1
    assert (row[:-1] == -9).all()
