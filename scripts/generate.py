"""Generate text with a trained model; needs nothing but its checkpoint."""

import sys
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from lm.config.script import imported, script_main
from lm.errors import UserError

if TYPE_CHECKING:
    from lm import LanguageModel
    from lm.config.signals import Interruptible
    from lm.generation.config import GenerationConfig

# all others are options of GenerationConfig
OWN_KEYS = ("ckpt", "prompt", "prompt_file", "tokenize", "detokenize", "out")


def generate(config: DictConfig) -> list[str]:
    """Generate the texts that `config` asks for, print a single sample word by word, and return them."""
    from lm import LanguageModel
    from lm.checkpoints.find import announced_checkpoint
    from lm.config.signals import Interruptible
    from lm.config.validation import check_arguments
    from lm.data.vocabulary import describe_unknown
    from lm.files.atomic import check_writable
    from lm.files.text import write_text
    from lm.generation.config import GenerationConfig
    from lm.generation.detokenize import detokenized

    imported()
    options = {str(key): value for key, value in config.items() if key not in OWN_KEYS}
    check_arguments(GenerationConfig, options)
    generation = GenerationConfig(**options)
    prompt = read_prompt(config)
    if config.out:
        check_writable(config.out)
    model = LanguageModel.load(announced_checkpoint(config.ckpt), config.tokenize)
    if unknown := model.unknown(prompt):
        print(describe_unknown(unknown), file=sys.stderr)

    interruptible = Interruptible()
    if generation.num_beams == generation.num_samples == 1 and not config.detokenize:
        texts = [print_words(model, prompt, generation, interruptible)]
    else:
        find = search_beams if generation.num_beams > 1 else draw_samples
        texts, notes = find(model, prompt, generation, interruptible)
        texts = [detokenized(text) for text in texts] if config.detokenize else texts
        print_texts(texts, notes)
    if config.out:
        write_text("\n\n".join(texts) + "\n", config.out)
    interruptible.raise_again("this is the text so far")
    return texts


def read_prompt(config: DictConfig) -> str:
    """Return the text of `prompt` or of `prompt_file`."""
    from lm.files.text import read_text

    if config.prompt_file is None:
        return str(config.prompt)
    if config.prompt:
        raise UserError(f"prompt={config.prompt} and prompt_file={config.prompt_file} given: leave one of them out.")
    return read_text(config.prompt_file, "prompt_file").removesuffix("\n")


def search_beams(
    model: "LanguageModel", prompt: str, generation: "GenerationConfig", interruptible: "Interruptible"
) -> tuple[list[str], list[str]]:
    """Return the most probable texts found by beam search, and their log-probabilities as notes."""
    found = model.beam_search(prompt, generation, interruptible)
    return [text for text, _ in found], [f"{log_prob:.4f} nats" for _, log_prob in found]


def draw_samples(
    model: "LanguageModel", prompt: str, generation: "GenerationConfig", interruptible: "Interruptible"
) -> tuple[list[str], list[str]]:
    """Return all samples, after Ctrl-C what has been drawn so far, and no notes."""
    from lm.language_model import pieces

    words = model.words_of(prompt)
    samples = [[*words] for _ in range(generation.num_samples)]
    with interruptible:
        for step in model.stream(prompt, generation):
            for sample, word in zip(samples, step, strict=True):
                sample += [word] if word is not None else []
    return ["".join(pieces(sample)) for sample in samples], []


def print_words(
    model: "LanguageModel", prompt: str, generation: "GenerationConfig", interruptible: "Interruptible"
) -> str:
    """Print a single sample word by word as it is drawn, and return it."""
    from lm.language_model import pieces

    parts = []
    with interruptible:
        stream = (word for [word] in model.stream(prompt, generation) if word)
        for part in pieces(chain(model.words_of(prompt), stream)):
            print(part, end="", flush=True)
            parts.append(part)
    print()
    return "".join(parts)


def print_texts(texts: Sequence[str], notes: Sequence[str] = ()) -> None:
    """Print texts one after the other; several, and those with notes, each below a title."""
    for number, (text, note) in enumerate(zip_longest(texts, notes, fillvalue=""), 1):
        if len(texts) > 1 or note:
            print(f"--- {number} --- {note}".rstrip())
        print(text)


main = script_main("generate", generate, ["prompt"])

if __name__ == "__main__":
    main()
