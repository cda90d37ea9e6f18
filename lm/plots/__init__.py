"""Pictures of what a model believes."""

from lm.plots.attention import attention_maps
from lm.plots.files import check_format, save_figure
from lm.plots.heat_map import log_prob_heat_map
from lm.plots.shaded_text import shaded_text

__all__ = ["attention_maps", "check_format", "log_prob_heat_map", "save_figure", "shaded_text"]
