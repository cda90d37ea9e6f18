"""Score a split of text with a trained model: loss, perplexity, tokens."""

from pathlib import Path

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from lm.cli import one_line_errors


def evaluate(config: DictConfig) -> dict[str, float]:
    """Score the split that `config` names and return loss, perplexity and tokens scored."""
    from lm import LanguageModel
    from lm.checkpoint import refuse_foreign_targets
    from lm.checks import one_of
    from lm.cli import prepare_process
    from lm.config import check
    from lm.module import TrainingModule
    from lm.results import print_results, write_json

    prepare_process()
    one_of(("valid", "test"), split=config.split)
    check(config)
    trainer = instantiate(config.trainer, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    language_model = LanguageModel.load(config.ckpt)
    data_config = config.get("data") or language_model.config["data"]
    refuse_foreign_targets(data_config, "lm.data.")
    data = instantiate(data_config, vocabulary=language_model.vocabulary)
    module = TrainingModule(language_model.model, language_model.vocabulary, language_model.config)

    run = trainer.validate if config.split == "valid" else trainer.test
    metrics = run(module, datamodule=data, verbose=False)[0]

    if trainer.is_global_zero:
        out = Path(config.out or Path(config.ckpt).with_suffix(f".{config.split}.json"))
        facts = {"ckpt": str(config.ckpt), "text": str(data.root), "precision": config.trainer.precision}
        print_results(metrics, **facts, results=out)
        write_json(facts | metrics, out)
    return metrics


@hydra.main(version_base="1.3", config_path="../conf", config_name="evaluate")
@one_line_errors
def main(config: DictConfig) -> None:
    """Evaluate."""
    evaluate(config)


if __name__ == "__main__":
    main()
