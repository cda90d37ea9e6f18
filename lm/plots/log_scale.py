"""The ticks of logarithmic axes."""

from collections.abc import Sequence

from matplotlib.axis import Axis
from matplotlib.ticker import LogLocator, NullFormatter

USUAL = (1.0, 2.0, 5.0)


def log_ticks(axis: Axis, digits: Sequence[float] = USUAL) -> None:
    """Put ticks at these digits times each power of ten, labelled as 0.5, 20 and 1,000."""
    axis.set_major_locator(LogLocator(subs=digits))
    axis.set_major_formatter("{x:,g}")
    axis.set_minor_formatter(NullFormatter())
