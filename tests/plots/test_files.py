"""Figures on disk."""

import pytest
import torch

from lm.errors import UserError
from lm.plots import log_prob_heat_map, save_figure
from lm.plots.files import FORMATS


@pytest.mark.parametrize("ending", FORMATS)
def test_figures_are_written_in_every_format(tmp_path, ending):
    figure = log_prob_heat_map([torch.zeros(1, 3)], [torch.zeros(1)], [["a"]])
    assert save_figure(figure, tmp_path / f"x.{ending}").stat().st_size > 500


def test_an_unknown_format_and_an_unwritable_place_are_refused(tmp_path):
    figure = log_prob_heat_map([torch.zeros(1, 3)], [torch.zeros(1)], [["a"]])
    with pytest.raises(UserError, match=r"its ending must be one of \.png, \.pdf, \.svg"):
        save_figure(figure, tmp_path / "x.jpeg2")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Cannot write "):
        save_figure(figure, tmp_path / "file" / "x.png")
