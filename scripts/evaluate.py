"""Score a split of text with trained models and their mixture, by an evaluation protocol and with test-time methods."""

from collections.abc import Iterator, Sequence
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
    from lm.evaluation.perplexity import verdict
    from lm.evaluation.report import print_report, summarize
    from lm.training.process import prepare_process
    from lm.training.results import print_details

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
    data, evaluators = load_evaluators(config, evaluation, ckpts, mixed)
    outputs = checked_outputs(config, evaluation, ckpts, data)
    print_summary(data, [config.split])
    print(f"Scoring {len(getattr(data.corpus, config.split)):,} tokens; Ctrl-C stops with what there is.", flush=True)
    scored = score_in_turn(evaluators, config.split, mixed)
    outputs = outputs.of_a_part() if scored.stopped else outputs
    if not scored.results and not scored.tried:
        raise KeyboardInterrupt("no word was scored")
    summaries = [summarize(result) for result in scored.results]
    details: dict[str, Any] = {"ckpt": str(ckpts[0]) if len(ckpts) == 1 else [*map(str, ckpts)]}
    details |= {"text": str(data.root), "precision": config.fabric.precision}
    details |= scored.protocols[""] if len(ckpts) == 1 else {"protocols": scored.protocols}
    write(scored, summaries, details, config.split, outputs)
    if summaries:
        print_report(summaries)
        if said := verdict(summaries[0]["loss"], len(data.corpus.vocabulary)):
            print(f"model: {said}")
    for line in evaluation.at_the_ends(result.values for result in scored.results):
        print(line)
    figures = {"figure": outputs.figure, "tensorboard": outputs.tensorboard} if outputs.figure else {"figure": "none"}
    print_details(**details, results=outputs.results, **figures)
    if scored.stopped:
        raise KeyboardInterrupt(f"{outputs.results} has what was scored so far")
    return summaries


def load_evaluators(
    config: DictConfig, evaluation: "EvaluationConfig", ckpts: Sequence[Path], mixed: bool
) -> "tuple[TextDataModule, Iterator[Evaluator | NGramEvaluator]]":
    """Return the data and an iterator over the evaluators: one for each model, then that of the n-grams.

    All models are first checked to score the same tokens. To save memory, those after the first are loaded for the
    check and again when their turn comes: at most two are in memory.
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
    ngrams = []
    if evaluation.ngram:
        ngrams = [NGramEvaluator(evaluation.ngram, evaluation.tune_tokens, first.protocol, first.data)]
    return first.data, chain([first], starmap(load, others), ngrams)


@dataclass(frozen=True)
class Outputs:
    """Where to write the results as JSON, the figure and TensorBoard's files; no figures beside a stream."""

    results: Path
    figure: Path | None
    tensorboard: Path | None

    def of_a_part(self) -> "Outputs":
        """Those of an interrupted evaluation, which keep the files of a finished one."""
        return (
            Outputs(self.results.with_name(self.results.name.removesuffix(".json") + ".partial.json"), None, None)
            if self.figure
            else self
        )


def checked_outputs(
    config: DictConfig, evaluation: "EvaluationConfig", ckpts: Sequence[Path], data: "TextDataModule"
) -> Outputs:
    """Return the paths, from `config.out` or next to the checkpoint, after a check that they can be written."""
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
class Scored:
    """The results of all evaluators, possibly cut short by Ctrl-C.

    Attributes:
        results: one for each model and combination of methods.
        tried: the values tried in tuning, with their losses.
        protocols: by the model's name.
        stopped: whether Ctrl-C ended the scoring early.
    """

    results: "list[EvaluationResult]" = field(default_factory=list)
    tried: list[dict[str, Any]] = field(default_factory=list)
    protocols: dict[str, dict[str, Any]] = field(default_factory=dict)
    stopped: bool = False


def score_in_turn(evaluators: "Iterator[Evaluator | NGramEvaluator]", split: str, mixed: bool) -> Scored:
    """Score the split with each model and, if `mixed`, with their mixtures; Ctrl-C ends it early."""
    from lm.evaluation.mixture import mixtures

    by_model: list[list[EvaluationResult]] = []
    scored = Scored()
    try:
        for evaluator in evaluators:
            by_model.append(list(evaluator.results(split)))
            scored.tried += evaluator.tried
            scored.protocols[evaluator.name] = asdict(evaluator.protocol)
            scored.stopped = evaluator.stopped
            if scored.stopped:
                break
            del evaluator  # before the next model is loaded
        if mixed and not scored.stopped:
            by_model.append(list(mixtures(by_model)))
    except KeyboardInterrupt:  # between the passes, such as while the next model is loaded
        if not by_model:
            raise
        scored.stopped = True
    scored.results = [*chain(*by_model)]
    return scored


def write(
    scored: Scored, summaries: list[dict[str, Any]], details: dict[str, Any], split: str, outputs: Outputs
) -> None:
    """Write the results with the details of how they were scored, and their figures."""
    from lm.evaluation.report import distinct, overview, write_figures
    from lm.plots import save_figure
    from lm.training.results import write_json

    write_json(details | {"split": split, "results": summaries, "tuning": scored.tried}, outputs.results)
    if summaries and outputs.figure and outputs.tensorboard:
        rows = distinct(summaries)
        write_figures(rows, outputs.tensorboard)
        save_figure(overview(rows), outputs.figure)


main = script_main("evaluate", evaluate)

if __name__ == "__main__":
    main()
