"""Score a split of text with a trained model, under an evaluation protocol and with test-time methods."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from lm.config.script import imported, script_main


def evaluate(config: DictConfig) -> list[dict[str, Any]]:
    """Score the split that `config` names and return a summary for each combination of methods."""
    from hydra.utils import instantiate
    from lightning.fabric.plugins.environments import LightningEnvironment

    from lm import LanguageModel
    from lm.checkpoints.find import announced_checkpoint, default_output_path
    from lm.config.checks import one_of
    from lm.config.validation import check
    from lm.data.summary import print_summary
    from lm.evaluation.data_config import evaluated_data
    from lm.evaluation.evaluator import Evaluator
    from lm.evaluation.perplexity import verdict
    from lm.evaluation.report import print_report, summarize, write_figures
    from lm.files.atomic import check_writable
    from lm.files.streams import is_stream
    from lm.ops import check_precision
    from lm.training.process import prepare_process
    from lm.training.results import print_details, write_json

    imported()
    prepare_process()
    one_of(("valid", "test"), split=config.split)
    check(config)
    one_of(("32-true", "bf16-mixed"), **{"fabric.precision": config.fabric.precision})
    evaluation = instantiate(config.evaluation)
    if evaluation.tune and config.split == "valid":
        print(
            "evaluation.tune=true with split=valid: the results are optimistically biased: tuned on the scored split."
        )
    fabric = instantiate(config.fabric, plugins=[LightningEnvironment()])  # one process, in a SLURM job, too
    ckpt = announced_checkpoint(config.ckpt)
    language_model = LanguageModel.load(ckpt)
    check_precision(language_model.model, config.fabric.precision, config.fabric.accelerator, "fabric.precision")
    data_config = evaluated_data(config.data, language_model.config["data"])
    data = instantiate(data_config, vocabulary=language_model.vocabulary)
    evaluator = Evaluator(evaluation, fabric.to_device(language_model.model), data, fabric)

    ending = f".{data.title(config.split)}.{config.split}{evaluation.title}.json"
    out = Path(config.out).expanduser() if config.out else default_output_path(ckpt, ending)
    figures = None if is_stream(out) else out.with_name(out.name.removesuffix(".json") + ".tensorboard")
    check_writable(out)
    if figures:
        check_writable(figures / "events")
    print_summary(data, [config.split])
    print(f"Scoring {len(getattr(data.corpus, config.split)):,} tokens; Ctrl-C stops with what there is.", flush=True)

    summaries = [summarize(result) for result in evaluator.results(config.split)]

    if not summaries and not evaluator.tried:
        raise KeyboardInterrupt("no word was scored")
    details = {"ckpt": str(ckpt), "text": str(data.root), "precision": config.fabric.precision}
    details |= asdict(evaluator.protocol)
    write_json(details | {"split": config.split, "results": summaries, "tuning": evaluator.tried}, out)
    if summaries and figures:
        write_figures(summaries, figures)
    print_report(summaries)
    if summaries and (said := verdict(summaries[0]["loss"], len(language_model.vocabulary))):
        print(f"model: {said}")
    print_details(**details, results=out, tensorboard=figures or "none")
    if evaluator.stopped:
        raise KeyboardInterrupt(f"{out} has what was scored so far")
    return summaries


main = script_main("evaluate", evaluate)

if __name__ == "__main__":
    main()
