"""Figures of what a model predicts."""

from lm.plots.attention import attention_maps
from lm.plots.files import check_format, save_figure
from lm.plots.heat_map import log_prob_heat_map
from lm.plots.learning_curves import learning_curves
from lm.plots.surprisal_page import surprisal_html
from lm.plots.surprisal_text import SurprisalText, surprisal_text

__all__ = [
    "SurprisalText",
    "attention_maps",
    "check_format",
    "learning_curves",
    "log_prob_heat_map",
    "save_figure",
    "surprisal_html",
    "surprisal_text",
]
