"""Write a short page, with a figure, on why a language model computes log_softmax and never log(softmax)."""

from pathlib import Path

from omegaconf import DictConfig

from lm.config.script import script_main


def log_softmax(config: DictConfig) -> Path:
    """Write the page and its figure, and return the page's path."""
    from lm.files.text import write_text
    from lm.log_softmax import figure, page
    from lm.plots import save_figure

    picture = save_figure(figure(), f"{config.out}.png")
    written = write_text(page(picture.name), f"{config.out}.md")
    print(f"{written} and {picture}")
    return written


main = script_main("log_softmax", log_softmax)

if __name__ == "__main__":
    main()
