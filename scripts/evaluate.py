"""Score a split of text with trained models and their mixture, by an evaluation protocol and with test-time methods."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain, starmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from lm.config.script import imported, script_main

if TYPE_CHECKING:
    from lm.data.datamodule import TextDataModule
    from lm.evaluation.config import EvaluationConfig
    from lm.evaluation.evaluator import EvaluationResult, Evaluator
    from lm.evaluation.ngram_evaluator import NGramEvaluator


def evaluate(config: DictConfig) -> list[dict[str, Any]]:
    """Score the split that `config` names and return a summary for each model and combination of methods."""
    from hydra.utils import instantiate

    from lm.checkpoints.find import announced_checkpoints
    from lm.config.checks import one_of
    from lm.config.validation import check
    from lm.data.summary import print_summary
    from lm.training.process import prepare_process

    imported()
    prepare_process()
    one_of(("valid", "test"), split=config.split)
    check(config)
    one_of(("32-true", "bf16-mixed"), **{"fabric.precision": config.fabric.precision})
    evaluation = instantiate(config.evaluation)
    ckpts = announced_checkpoints(config.ckpt)
    mixed = len(ckpts) > 1 or evaluation.ngram is not None
    if config.split == "valid" and (evaluation.tune or mixed):
        tuned = "evaluation.tune=true" if evaluation.tune else "a mixture"
        print(f"{tuned} with split=valid: the results are optimistically biased: tuned on the scored split.")
    data, evaluators = loaded_in_turn(config, evaluation, ckpts, mixed)
    outputs = checked_outputs(config, evaluation, ckpts, data)
    print_summary(data, [config.split])
    print(f"Scoring {len(getattr(data.corpus, config.split)):,} tokens; Ctrl-C stops with what there is.", flush=True)
    scores = score_in_turn(evaluators, config.split, mixed)
    summaries = report(scores, config, ckpts, data, outputs)
    if scores.stopped:
        raise KeyboardInterrupt(f"{outputs.results} has what was scored so far")
    return summaries


def loaded_in_turn(
    config: DictConfig, evaluation: "EvaluationConfig", ckpts: Sequence[Path], mixed: bool
) -> "tuple[TextDataModule, Iterable[Evaluator | NGramEvaluator]]":
    """The data, and the evaluator of each model and of the n-grams, once all models are known to score the same tokens.

    A model after the first is loaded for that check, and again in its turn: no more than two are in memory.
    """
    from hydra.utils import instantiate
    from lightning.fabric.plugins.environments import LightningEnvironment

    from lm import LanguageModel
    from lm.checkpoints.find import run_names
    from lm.evaluation.data_config import evaluated_data
    from lm.evaluation.evaluator import Evaluator
    from lm.evaluation.mixture import check_same_tokens
    from lm.evaluation.ngram_evaluator import NGramEvaluator
    from lm.ops import check_precision

    fabric = instantiate(config.fabric, plugins=[LightningEnvironment()])  # one process, in a SLURM job, too

    def load(ckpt: Path, name: str) -> Evaluator:
        language_model = LanguageModel.load(ckpt)
        precision, accelerator = config.fabric.precision, config.fabric.accelerator
        check_precision(language_model.model, precision, accelerator, "fabric.precision")
        data_config = evaluated_data(config.data, language_model.config["data"])
        data = instantiate(data_config, vocabulary=language_model.vocabulary)
        return Evaluator(evaluation, fabric.to_device(language_model.model), data, fabric, name, mixed)

    names = run_names(ckpts) if len(ckpts) > 1 else [""]
    (first_ckpt, first_name), *others = zip(ckpts, names, strict=True)
    first = load(first_ckpt, first_name)
    for other in others:
        check_same_tokens(first, load(*other), config.split)
    ngrams = [NGramEvaluator(evaluation, first.protocol, first.data)] if evaluation.ngram else []
    return first.data, chain([first], starmap(load, others), ngrams)


@dataclass(frozen=True)
class Outputs:
    """Where the results are written as JSON and, unless they go to a stream, the figure and TensorBoard's folder."""

    results: Path
    figure: Path | None
    tensorboard: Path | None


def checked_outputs(
    config: DictConfig, evaluation: "EvaluationConfig", ckpts: Sequence[Path], data: "TextDataModule"
) -> Outputs:
    """The paths that `config.out` stands for; refuse one that cannot be written before anything is scored."""
    from lm.checkpoints.find import default_output_path
    from lm.evaluation.mixture import ensemble_title
    from lm.files.atomic import check_writable
    from lm.files.streams import is_stream

    ending = f".{data.title(config.split)}.{config.split}{evaluation.title}{ensemble_title(ckpts)}.json"
    out = Path(config.out).expanduser() if config.out else default_output_path(ckpts[0], ending)
    check_writable(out)
    if is_stream(out):
        return Outputs(out, None, None)
    tensorboard, figure = (out.with_name(out.name.removesuffix(".json") + end) for end in (".tensorboard", ".png"))
    check_writable(tensorboard / "events")
    check_writable(figure)
    return Outputs(out, figure, tensorboard)


@dataclass
class Scores:
    """What evaluators have scored.

    Attributes:
        results: of each model and combination of methods.
        tried: the values tried in tuning, and their losses.
        protocols: of each model, by its name.
        stopped: by Ctrl-C, before the end.
    """

    results: "list[EvaluationResult]" = field(default_factory=list)
    tried: list[dict[str, Any]] = field(default_factory=list)
    protocols: dict[str, dict[str, Any]] = field(default_factory=dict)
    stopped: bool = False


def score_in_turn(evaluators: "Iterable[Evaluator | NGramEvaluator]", split: str, mixed: bool) -> Scores:
    """Score by each model and, where `mixed`, by their mixtures, until Ctrl-C."""
    from lm.evaluation.mixture import mixtures

    by_model: list[list[EvaluationResult]] = []
    scores = Scores()
    try:
        for evaluator in evaluators:
            by_model.append(list(evaluator.results(split)))
            scores.tried += evaluator.tried
            scores.protocols[evaluator.name] = asdict(evaluator.protocol)
            scores.stopped = evaluator.stopped
            if scores.stopped:
                break
        if mixed and not scores.stopped:
            by_model.append(list(mixtures(by_model)))
    except KeyboardInterrupt:  # between the passes, such as while the next model is loaded
        if not by_model:
            raise
        scores.stopped = True
    scores.results = [*chain(*by_model)]
    return scores


def report(
    scores: Scores, config: DictConfig, ckpts: Sequence[Path], data: "TextDataModule", outputs: Outputs
) -> list[dict[str, Any]]:
    """Write and print the results, and return their summaries."""
    from lm.evaluation.perplexity import verdict
    from lm.evaluation.report import distinct, overview, print_report, summarize, write_figures
    from lm.plots import save_figure
    from lm.training.results import print_details, write_json

    summaries = [summarize(result) for result in scores.results]
    if not summaries and not scores.tried:
        raise KeyboardInterrupt("no word was scored")
    details: dict[str, Any] = {"ckpt": str(ckpts[0]) if len(ckpts) == 1 else [*map(str, ckpts)]}
    details |= {"text": str(data.root), "precision": config.fabric.precision}
    details |= scores.protocols[""] if len(ckpts) == 1 else {"protocols": scores.protocols}
    write_json(details | {"split": config.split, "results": summaries, "tuning": scores.tried}, outputs.results)
    if summaries and outputs.figure and outputs.tensorboard:
        rows = distinct(summaries)
        write_figures(rows, outputs.tensorboard)
        save_figure(overview(rows), outputs.figure)
    print_report(summaries)
    if summaries and (said := verdict(summaries[0]["loss"], len(data.corpus.vocabulary))):
        print(f"model: {said}")
    print_details(**details, **{name: path or "none" for name, path in asdict(outputs).items()})
    return summaries


main = script_main("evaluate", evaluate)

if __name__ == "__main__":
    main()
