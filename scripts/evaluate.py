"""Score a split of text with trained models and their mixture, by an evaluation protocol and with test-time methods."""

from collections.abc import Iterable
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from lm.config.script import imported, script_main

if TYPE_CHECKING:
    from lm.evaluation.evaluator import EvaluationResult, Evaluator
    from lm.evaluation.ngram_evaluator import NGramEvaluator


def evaluate(config: DictConfig) -> list[dict[str, Any]]:
    """Score the split that `config` names and return a summary for each model and combination of methods."""
    from hydra.utils import instantiate
    from lightning.fabric.plugins.environments import LightningEnvironment

    from lm import LanguageModel
    from lm.checkpoints.find import announced_checkpoints, default_output_path, run_names
    from lm.config.checks import one_of
    from lm.config.validation import check
    from lm.data.summary import print_summary
    from lm.evaluation.data_config import evaluated_data
    from lm.evaluation.evaluator import Evaluator
    from lm.evaluation.mixture import check_same_tokens, ensemble_title
    from lm.evaluation.ngram_evaluator import NGramEvaluator
    from lm.evaluation.perplexity import verdict
    from lm.evaluation.report import distinct, overview, print_report, summarize, write_figures
    from lm.files.atomic import check_writable
    from lm.files.streams import is_stream
    from lm.ops import check_precision
    from lm.plots import save_figure
    from lm.training.process import prepare_process
    from lm.training.results import print_details, write_json

    imported()
    prepare_process()
    one_of(("valid", "test"), split=config.split)
    check(config)
    one_of(("32-true", "bf16-mixed"), **{"fabric.precision": config.fabric.precision})
    evaluation = instantiate(config.evaluation)
    ckpts = announced_checkpoints(config.ckpt)
    names = run_names(ckpts) if len(ckpts) > 1 else [""]
    mixed = len(ckpts) > 1 or evaluation.ngram is not None
    if config.split == "valid" and (evaluation.tune or mixed):
        tuned = "evaluation.tune=true" if evaluation.tune else "a mixture"
        print(f"{tuned} with split=valid: the results are optimistically biased: tuned on the scored split.")
    fabric = instantiate(config.fabric, plugins=[LightningEnvironment()])  # one process, in a SLURM job, too

    def evaluator(ckpt: Path, name: str) -> Evaluator:
        language_model = LanguageModel.load(ckpt)
        precision, accelerator = config.fabric.precision, config.fabric.accelerator
        check_precision(language_model.model, precision, accelerator, "fabric.precision")
        data_config = evaluated_data(config.data, language_model.config["data"])
        data = instantiate(data_config, vocabulary=language_model.vocabulary)
        return Evaluator(evaluation, fabric.to_device(language_model.model), data, fabric, name, mixed)

    first, *others = zip(ckpts, names, strict=True)
    evaluators = [evaluator(*first)]
    data = evaluators[0].data
    for other in others:  # loaded again in its turn: no more than two models are in memory
        check_same_tokens(evaluators[0], evaluator(*other), config.split)
    ngrams = [NGramEvaluator(evaluation, evaluators[0].protocol, data)] if evaluation.ngram else []

    ending = f".{data.title(config.split)}.{config.split}{evaluation.title}{ensemble_title(ckpts)}.json"
    out = Path(config.out).expanduser() if config.out else default_output_path(ckpts[0], ending)
    folder, picture = (out.with_name(out.name.removesuffix(".json") + end) for end in (".tensorboard", ".png"))
    check_writable(out)
    if has_figures := not is_stream(out):
        check_writable(folder / "events")
        check_writable(picture)
    print_summary(data, [config.split])
    print(f"Scoring {len(getattr(data.corpus, config.split)):,} tokens; Ctrl-C stops with what there is.", flush=True)

    runs: Iterable[Evaluator | NGramEvaluator] = chain(evaluators, (evaluator(*other) for other in others), ngrams)
    results, tried, protocols, stopped = score_in_turn(runs, config.split, mixed)
    summaries = [summarize(result) for result in results]

    if not summaries and not tried:
        raise KeyboardInterrupt("no word was scored")
    details: dict[str, Any] = {"ckpt": str(ckpts[0]) if len(ckpts) == 1 else [*map(str, ckpts)]}
    details |= {"text": str(data.root), "precision": config.fabric.precision}
    details |= protocols[""] if len(ckpts) == 1 else {"protocols": protocols}
    write_json(details | {"split": config.split, "results": summaries, "tuning": tried}, out)
    if summaries and has_figures:
        rows = distinct(summaries)
        write_figures(rows, folder)
        save_figure(overview(rows), picture)
    print_report(summaries)
    if summaries and (said := verdict(summaries[0]["loss"], len(data.corpus.vocabulary))):
        print(f"model: {said}")
    shown = {"figure": picture, "tensorboard": folder} if has_figures else {"figure": "none"}
    print_details(**details, results=out, **shown)
    if stopped:
        raise KeyboardInterrupt(f"{out} has what was scored so far")
    return summaries


def score_in_turn(
    runs: "Iterable[Evaluator | NGramEvaluator]", split: str, mixed: bool
) -> "tuple[list[EvaluationResult], list[dict[str, Any]], dict[str, dict[str, Any]], bool]":
    """The results of each model and, where `mixed`, of their mixtures, unless Ctrl-C stops one.

    Also the values tried in tuning, each model's protocol by its name, and whether one was stopped.
    """
    from lm.evaluation.mixture import mixtures

    results: list[list[EvaluationResult]] = []
    tried: list[dict[str, Any]] = []
    protocols, stopped = {}, False
    try:
        for run in runs:
            results.append(list(run.results(split)))
            tried += run.tried
            protocols[run.name] = asdict(run.protocol)
            if stopped := run.stopped:
                break
        if mixed and not stopped:
            results.append(list(mixtures(results)))
    except KeyboardInterrupt:  # between the passes, such as while the next model is loaded
        if not results:
            raise
        stopped = True
    return [*chain(*results)], tried, protocols, stopped


main = script_main("evaluate", evaluate)

if __name__ == "__main__":
    main()
