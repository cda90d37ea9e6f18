"""Score a text word by word with a trained model."""

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from heapq import nsmallest
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from omegaconf import DictConfig

from lm.config.script import imported, script_main
from lm.errors import UserError

if TYPE_CHECKING:
    from lm import LanguageModel
    from lm.score import Score

MOST_WORDS = 400  # in a figure
MOST_LINES = {"text": 100, "heat_map": 12, "attention": 1}  # in a figure of each view
PLOTTED = 10  # candidates of each word in a page; a picture shows fewer
WORDS_BEFORE = 5  # in a list of surprising words
STYLES = ((10, "bold red"), (7, "red"), (4, "yellow"), (-math.inf, ""))  # from this many nats of surprisal on


def score(config: DictConfig) -> list["Score"]:
    """Score the text that `config` names line by line, print and draw what it asks for, and return the scores."""
    from lm import LanguageModel
    from lm.checkpoints.find import announced_checkpoint
    from lm.config.signals import Interruptible
    from lm.data.vocabulary import describe_unknown

    imported()
    check(config)
    numbers: list[int] = []
    lines = drawable(lines_of(config, numbers), config) if config.plot else lines_of(config, numbers)
    model = LanguageModel.load(announced_checkpoint(config.ckpt), config.tokenize)
    save = drawn(model, list(lines), config) if config.plot else None
    scores = []
    with Interruptible() as scoring:  # the text may be endless, as from `tail -f`
        for scored in model.score_lines(lines, config.top, config.eos, config.context):
            if scored.unknown:
                print(describe_unknown(scored.unknown), file=sys.stderr)
            scores.append(scored)
            PRINTERS[config.format](scored)
    totals = sys.stderr if config.format == "json" else sys.stdout
    print_total(scores, totals)
    print_most_surprising(scores, numbers, config.most, totals)
    if save:
        print(f"figure: {save(config.plot)}", file=sys.stderr)
    scoring.raise_again("this is the text so far")
    return scores


def check(config: DictConfig) -> None:
    """Refuse values that are out of range or do not go together."""
    from lm import LanguageModel
    from lm.config.checks import at_least, one_of
    from lm.config.validation import check_arguments
    from lm.language_model import CONTEXTS

    check_arguments(LanguageModel.score, {"top": config.top, "eos": config.eos})
    at_least(0, top=config.top, most=config.most)
    one_of(PRINTERS, format=config.format)
    one_of(CONTEXTS, context=config.context)
    one_of(MOST_LINES, view=config.view)
    if config.text is not None and config.file != "-":
        raise UserError(f"text=... and file={config.file} given: give one of them.")
    if config.plot:
        check_plot(config)


def check_plot(config: DictConfig) -> None:
    """Refuse a figure of a view or format that does not exist, or that could not be written."""
    from lm.files.atomic import check_writable
    from lm.plots import check_format  # matplotlib takes a third of a second to import
    from lm.plots.files import FORMATS

    if config.context == "document" and config.view != "text":
        raise UserError(
            f"view={config.view} with context=document given, but it shows each line by itself: use view=text."
        )
    check_format(config.plot, [*FORMATS, "html"] if config.view == "text" else FORMATS)
    check_writable(config.plot)


def lines_of(config: DictConfig, numbers: list[int]) -> Iterator[str]:
    """Yield the lines of `text`, `file` or the standard input as they come, and append the number of each to `numbers`.

    Blank ones are left out, but for context=document.
    """
    from lm.files.text import checked_lines, lines_of_text, read_text

    if config.text is not None:
        lines: Iterable[str] = lines_of_text(str(config.text))
    elif config.file == "-":
        lines = checked_lines(sys.stdin or [], "The standard input")
    else:
        lines = lines_of_text(read_text(config.file, "file"))
    nothing = True
    for number, line in enumerate(lines, start=1):
        nothing = nothing and not line.strip()
        if line.strip() or config.context == "document":
            numbers.append(number)
            yield line
    if nothing:
        raise UserError("There is nothing to score: give text=..., file=PATH, or words on the standard input.")


def drawable(lines: Iterable[str], config: DictConfig) -> list[str]:
    """Return the lines if a figure has room for them."""
    lines = list(lines)
    words, most_lines = sum(len(line.split()) for line in lines), MOST_LINES[config.view]
    if words > MOST_WORDS or len(lines) > most_lines:
        raise UserError(
            f"plot={config.plot} given for {len(lines)} lines with {words} words, but view={config.view} shows at most "
            f"{most_lines} lines and {MOST_WORDS} words: give fewer, or leave plot out."
        )
    return lines


def print_table(scored: "Score") -> None:
    """Print a line's words with their log-probabilities, those of a high surprisal in colour, and their sum."""
    from rich.console import Console
    from rich.text import Text

    from lm.files.text import visible

    words = list(map(visible, scored.words))
    width = max(map(len, words), default=0)
    lines = Text()
    for i, (word, known, log_prob) in enumerate(zip(words, scored.known, scored.log_probs, strict=True)):
        style = next(style for nats, style in STYLES if -log_prob >= nats)
        top = "  ".join(f"{name} {value:.2f}" for name, value in scored.top_log_probs[i])
        lines.append(f"{word:{width}} {log_prob:9.4f} {percent(log_prob):>7}  rank {scored.ranks[i]:<6,}", style)
        lines.append("" if known else "  (unknown: scored as <unk>)", "italic")
        lines.append(f"   top: {top}\n" if top else "\n", "dim")
    lines.append(f"{'sum':{width}} {scored.log_prob:9.4f}   perplexity {scored.perplexity:,.2f}\n")
    Console(soft_wrap=True).print(lines)


def print_json(scored: "Score") -> None:
    """Print a line's score as one JSON object."""
    from lm.files.text import json_text

    values = asdict(scored) | {"log_prob": scored.log_prob, "perplexity": scored.perplexity}
    print(json_text(values), flush=True)


def print_nothing(scored: "Score") -> None:
    """Leave out a line's score: the totals follow."""


PRINTERS = {"table": print_table, "json": print_json, "summary": print_nothing}


def percent(log_prob: float) -> str:
    """A probability of at least a thousandth with one digit after the point."""
    return f"{math.exp(log_prob):.1%}" if log_prob >= math.log(0.001) else "<0.1%"


def print_total(scores: Sequence["Score"], file: TextIO) -> None:
    """Print the sum over all lines, and warn if it is meaningless."""
    from lm.data import EOS
    from lm.evaluation.perplexity import perplexity

    total = sum(scored.log_prob for scored in scores)
    words = [pair for scored in scores for pair in zip(scored.words, scored.known, strict=True)]
    mean = perplexity(-total / len(words)) if words else math.nan
    bits = -total / math.log(2) / max(sum(scored.characters for scored in scores), 1)
    print(
        f"text: log-probability {total:.4f} nats, {len(words)} tokens, perplexity {mean:,.2f}, "
        f"{bits:.3f} bits per character",
        file=file,
    )
    if words and not any(known for word, known in words if word != EOS):
        print("The model knows none of these words: this is the perplexity of a sequence of <unk>.", file=sys.stderr)


def drawn(model: "LanguageModel", lines: Sequence[str], config: DictConfig) -> Callable[[str], Path]:
    """Draw lines in the view that `config` names, and return a function that writes the figure to a path."""
    from lm.plots import SurprisalText, attention_maps, log_prob_heat_map, save_figure

    if config.view == "text":
        return SurprisalText(list(model.score_lines(lines, PLOTTED, config.eos, config.context))).save
    if config.view == "attention":
        words, weights = model.attention(lines[0])
        return partial(save_figure, attention_maps(weights, words))
    log_probs = [model.log_probs(line, config.eos) for line in lines]
    words_of_lines = [model.words_of_line(line, config.eos) for line in lines]
    targets = [model.vocabulary.encode(each) for each in words_of_lines]
    return partial(save_figure, log_prob_heat_map(log_probs, targets, words_of_lines))


def print_most_surprising(scores: Sequence["Score"], numbers: Sequence[int], most: int, file: TextIO) -> None:
    """Print the words with the lowest log-probabilities of all, each after the words before it in its line.

    Args:
        scores: of each line.
        numbers: of these lines in the text, from 1 on.
        most: how many words.
        file: to print to.
    """
    from lm.files.text import visible

    places = [(log_prob, line, i) for line, each in enumerate(scores) for i, log_prob in enumerate(each.log_probs)]
    for log_prob, line, i in nsmallest(most, places):
        words = [visible(word) for word in scores[line].words[max(i - WORDS_BEFORE, 0) : i + 1]]
        known = "" if scores[line].known[i] else "  (unknown: scored as <unk>)"
        print(
            f"{-log_prob:6.2f} nats  line {numbers[line]}: {' '.join([*words[:-1], f'>{words[-1]}<'])}{known}",
            file=file,
        )


main = script_main("score", score, ["text"])

if __name__ == "__main__":
    main()
