"""Let a trained model write; needs nothing but its checkpoint."""

from collections.abc import Iterable
from itertools import chain

import hydra
from omegaconf import DictConfig

from lm.cli import accept_free_text, one_line_errors, warn_of_unknown_words


def generate(config: DictConfig) -> list[str]:
    """Write the samples that `config` asks for, a single one word by word, and return them."""
    from lm import LanguageModel
    from lm.config import check_arguments
    from lm.detokenize import detokenized
    from lm.files import write_text
    from lm.generation import check_options
    from lm.language_model import pieces
    from lm.sampling import Sampling

    counts = {name: config[name] for name in ("words", "num_samples", "seed")}
    sampling = {name: config[name] for name in ("temperature", "top_k", "top_p", "min_p")}
    check_arguments(check_options, counts)
    check_arguments(Sampling, sampling)
    check_arguments(LanguageModel.stream, {"unk": config.unk})
    check_options(**counts)
    Sampling(**sampling)
    options = counts | sampling | {"unk": config.unk}
    model = LanguageModel.load(config.ckpt)
    warn_of_unknown_words(model.unknown(config.prompt))

    if config.num_samples == 1 and not config.detokenize:
        words = (word for [word] in model.stream(config.prompt, **options))
        texts = [print_as_it_comes(pieces(chain(config.prompt.split(), words)))]
    else:
        texts = model.generate(config.prompt, **options)
        texts = [detokenized(text) for text in texts] if config.detokenize else texts
        for number, text in enumerate(texts, 1):
            print(f"--- {number} ---\n{text}" if len(texts) > 1 else text)
    if config.out:
        write_text("\n\n".join(texts) + "\n", config.out)
    return texts


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
    accept_free_text("prompt")
    main()
