"""Let a trained model write; needs nothing but its checkpoint."""

from collections.abc import Iterable, Sequence
from itertools import chain, zip_longest

import hydra
from omegaconf import DictConfig

from lm.cli import one_line_errors, warn_of_unknown_words
from lm.command_line import prepare_command_line
from lm.errors import UserError

NOT_OF_WRITING = ("ckpt", "prompt", "prompt_file", "detokenize", "out")  # all other keys are options of Writing


def generate(config: DictConfig) -> list[str]:
    """Write the texts that `config` asks for, a single sample word by word, and return them."""
    from lm import LanguageModel
    from lm.config import check_arguments
    from lm.detokenize import detokenized
    from lm.files import check_writable, write_text
    from lm.find_checkpoint import announced_checkpoint
    from lm.language_model import pieces, words_of
    from lm.writing import Writing

    options = {str(key): value for key, value in config.items() if key not in NOT_OF_WRITING}
    check_arguments(Writing, options)
    writing = Writing(**options)
    prompt = read_prompt(config)
    if config.out:
        check_writable(config.out)
    model = LanguageModel.load(announced_checkpoint(config.ckpt))
    warn_of_unknown_words(model.unknown(prompt))

    readable = detokenized if config.detokenize else str
    if writing.beams > 1:
        found = model.likeliest_texts(prompt, **options)
        texts = [readable(text) for text, _ in found]
        print_texts(texts, [f"{log_prob:.4f} nats" for _, log_prob in found])
    elif writing.num_samples > 1 or config.detokenize:
        texts = [readable(text) for text in model.generate(prompt, **options)]
        print_texts(texts)
    else:
        words = (word for [word] in model.stream(prompt, **options) if word)
        texts = [print_as_it_comes(pieces(chain(words_of(prompt), words)))]
    if config.out:
        write_text("\n\n".join(texts) + "\n", config.out)
    return texts


def read_prompt(config: DictConfig) -> str:
    """Return the text of `prompt` or of `prompt_file`."""
    from lm.files import read_text

    if config.prompt_file is None:
        return str(config.prompt)
    if config.prompt:
        raise UserError(f"prompt={config.prompt} and prompt_file={config.prompt_file} given: leave one of them out.")
    return read_text(config.prompt_file, "prompt_file").removesuffix("\n")


def print_texts(texts: Sequence[str], notes: Sequence[str] = ()) -> None:
    """Print texts one after the other, where there are several or notes each below a title."""
    for number, (text, note) in enumerate(zip_longest(texts, notes, fillvalue=""), 1):
        if len(texts) > 1 or note:
            print(f"--- {number} --- {note}".rstrip())
        print(text)


def print_as_it_comes(parts: Iterable[str]) -> str:
    """Print the parts of a text one by one and return it."""
    text = ""
    for part in parts:
        print(part, end="", flush=True)
        text += part
    print()
    return text


@hydra.main(version_base="1.3", config_path="../conf", config_name="generate")
@one_line_errors
def main(config: DictConfig) -> None:
    """Generate."""
    generate(config)


if __name__ == "__main__":
    prepare_command_line("prompt")
    main()
