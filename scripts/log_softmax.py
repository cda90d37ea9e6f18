"""Write a short page, with a figure, on why a language model computes log_softmax and never log(softmax)."""

if __name__ == "__main__":
    from lm.config.signals import handle_signals

    handle_signals()  # before the imports, which take a second

from pathlib import Path

import hydra
from omegaconf import DictConfig

from lm.config.cli import one_line_errors
from lm.config.command_line import prepare_command_line


def log_softmax(config: DictConfig) -> Path:
    """Write the page and its figure, and return the page's path."""
    from lm.files.text import write_text
    from lm.log_softmax import figure, page
    from lm.plots import save_figure

    picture = save_figure(figure(), f"{config.out}.png")
    written = write_text(page(picture.name), f"{config.out}.md")
    print(f"{written} and {picture}")
    return written


@hydra.main(version_base="1.3", config_path="../conf", config_name="log_softmax")
@one_line_errors
def main(config: DictConfig) -> None:
    """Write the page."""
    log_softmax(config)


if __name__ == "__main__":
    prepare_command_line()
    main()
