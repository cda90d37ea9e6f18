"""Show how likely a trained model finds a text, word by word."""

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig

from lm.cli import accept_free_text, one_line_errors, warn_of_unknown_words
from lm.errors import UserError

if TYPE_CHECKING:
    from lm.language_model import Score


MOST_PANELS = 12  # of a heat map


def score(config: DictConfig) -> list["Score"]:
    """Score the text that `config` names line by line, print and draw what it asks for, and return the scores."""
    from lm import LanguageModel
    from lm.checks import at_least
    from lm.config import check_arguments
    from lm.plots import check_format, log_prob_heat_map, save_figure

    check_arguments(LanguageModel.score, {"top": config.top, "eos": config.eos})
    at_least(0, top=config.top)
    if config.plot:
        check_format(config.plot)
    lines = [line for line in read_text(config).splitlines() if line.strip()]
    if not lines:
        raise UserError("There is nothing to score: give text=..., file=PATH, or words on the standard input.")
    if config.plot and len(lines) > MOST_PANELS:
        raise UserError(f"plot={config.plot} given for {len(lines)} lines, but it draws at most {MOST_PANELS}.")
    model = LanguageModel.load(config.ckpt)
    warn_of_unknown_words(model.unknown(" ".join(lines)))

    scores = [model.score(line, config.top, config.eos) for line in lines]
    for scored in scores:
        print_score(scored)
    total = sum(scored.log_prob for scored in scores)
    words = sum(len(scored.words) for scored in scores)
    print(f"text: log-probability {total:.4f} nats, {words} words, perplexity {math.exp(-total / words):,.2f}")
    if config.plot:
        figure = log_prob_heat_map([model.log_probs(line, config.eos) for line in lines], [s.words for s in scores])
        print(f"heat map: {save_figure(figure, config.plot)}")
    return scores


def read_text(config: DictConfig) -> str:
    """Return the text of `text`, `file` or the standard input."""
    if config.text is not None:
        return str(config.text)
    if config.file == "-":
        return sys.stdin.read()
    try:
        return Path(config.file).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"Cannot read file={config.file}: {getattr(error, 'strerror', 'it is not UTF-8')}.") from error


def print_score(scored: "Score") -> None:
    """Print a line's words, each with its log-probability, and their sum."""
    width = max(map(len, scored.words))
    for i, (word, known, log_prob) in enumerate(zip(scored.words, scored.known, scored.log_probs, strict=True)):
        note = "" if known else "  (unknown: scored as <unk>)"
        likeliest = "  ".join(f"{name} {value:.2f}" for name, value in scored.likeliest[i])
        print(f"{word:{width}} {log_prob:9.4f}{note}" + (f"   likeliest: {likeliest}" if likeliest else ""))
    print(f"{'sum':{width}} {scored.log_prob:9.4f}   perplexity {scored.perplexity:,.2f}\n")


@hydra.main(version_base="1.3", config_path="../conf", config_name="score")
@one_line_errors
def main(config: DictConfig) -> None:
    """Score."""
    score(config)


if __name__ == "__main__":
    accept_free_text("text")
    main()
