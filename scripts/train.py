"""Train a language model, test its best checkpoint, and print the results."""

import math

from omegaconf import DictConfig

from lm.config.script import imported, script_main


def train(config: DictConfig) -> dict[str, float]:
    """Run the whole job that `config` describes, and return its scores."""
    # torch and Lightning take seconds to import; `--help` and `--cfg job` do without them
    from lm.training.run import run

    imported()
    return run(config).metrics


def validation_perplexity(config: DictConfig) -> float | None:
    """Train, and return what a sweeper minimises; None, a failure, if it is not finite."""
    perplexity = train(config).get("val/ppl", math.nan)
    return perplexity if math.isfinite(perplexity) else None


main = script_main("train", validation_perplexity)

if __name__ == "__main__":
    main()
