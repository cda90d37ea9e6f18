"""scripts/evaluate.py end to end: what a user types, what a user gets."""

import json
import math
import re
import shutil
from contextlib import contextmanager
from itertools import count

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lm import LanguageModel
from lm.data import EOS, sources
from lm.errors import UserError
from lm.evaluation.data_config import evaluated_data
from lm.models import Core
from scripts.evaluate import evaluate
from tests.conftest import composed, mistake, run


@pytest.fixture
def own(text_folder):
    """Where the text is that the checkpoints were trained on."""
    return f"data.root={text_folder}", f"data.cache_dir={text_folder}/cache"


def test_evaluate_needs_only_the_checkpoint_and_repeats_the_tested_perplexity(
    trained, tmp_path, own, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    checkpoint = trained("lstm")
    evaluate(composed("evaluate", *own, f"ckpt={checkpoint}", "evaluation.batch_size=3", "out=test.json"))
    [result] = json.loads((tmp_path / "test.json").read_text())["results"]
    metrics = json.loads((checkpoint.parents[1] / "metrics.json").read_text())
    for name in ("loss", "ppl", "tokens"):
        assert result[name] == pytest.approx(metrics[f"test/{name}"], rel=1e-6)
    assert f"{result['ppl']:.2f}" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["test.json", "test.png", "test.tensorboard"]


@pytest.mark.slow
def test_evaluate_as_typed_prints_the_perplexity_and_leaves_nothing_else(trained, tmp_path, own):
    done = run("evaluate", *own, f"ckpt={trained('lstm')}", f"out={tmp_path}/test.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    [result] = json.loads((tmp_path / "test.json").read_text())["results"]
    assert f"{result['ppl']:.2f}" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["test.json", "test.png", "test.tensorboard"]


@pytest.mark.parametrize("model", ["lstm", "transformer"])
def test_all_methods_together_are_tuned_reported_and_drawn(trained, tmp_path, capsys, model, own):
    options = ["evaluation/cache=neural", "evaluation/dynamic=rms", "evaluation.tune=true", "evaluation=awd_lstm"]
    options += ["evaluation.dynamic.statistics.windows=10", "evaluation.tune_tokens=100", "fabric.precision=32-true"]
    options += ["evaluation.cache.candidates.theta=[0.3,0.6]"]  # either is an end
    summaries = evaluate(composed("evaluate", *own, f"ckpt={trained(model)}", f"out={tmp_path}/x.json", *options))
    written = json.loads((tmp_path / "x.json").read_text())
    assert written["results"] == summaries
    assert len(summaries) == 8 and written["tuning"]
    assert "est of evaluation.cache.candidates.theta=[0.3,0.6]: a " in capsys.readouterr().out
    for row in summaries:
        assert row["ppl"] == pytest.approx(math.exp(row["loss"]))
        for bands in (row["by_frequency_rank"], row["by_position_in_window"]):
            assert sum(band["tokens"] for band in bands) == row["tokens"]
            mean = sum(band["tokens"] * math.log(band["ppl"]) for band in bands) / row["tokens"]
            assert mean == pytest.approx(row["loss"])
    evaluate(
        composed("evaluate", *own, f"ckpt={trained(model)}", f"out={tmp_path}/x.json")
    )  # in the place of the first
    events = EventAccumulator(str(tmp_path / "x.tensorboard"))
    events.Reload()
    figures = {f"evaluation/{name}" for name in ("perplexity", "by_frequency_rank", "by_position_in_window")}
    assert set(events.Tags()["images"]) == figures
    assert len(list((tmp_path / "x.tensorboard").iterdir())) == 1


@pytest.mark.parametrize("protocol", ["full", "pytorch_examples", "awd_lstm"])
def test_protocols_score_the_tokens_that_they_say(trained, text_folder, protocol, own):
    text = (text_folder / "test.txt").read_text()
    tokens = len(text.split()) + text.count("\n")
    expected = {"full": tokens, "awd_lstm": tokens - 1, "pytorch_examples": 10 * (tokens // 10 - 1)}
    config = composed("evaluate", *own, f"ckpt={trained('transformer')}", f"evaluation={protocol}", "out=/dev/null")
    [summary] = evaluate(config)
    assert summary["tokens"] == expected[protocol]


def test_evaluate_takes_other_text_and_the_models_own_words(trained, tmp_path):
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_text("w1 w2 zebra\n" * 20)
    other = ("data=text", f"data.root={tmp_path}", f"data.cache_dir={tmp_path}/cache", "evaluation.batch_size=1")
    other += ("fabric.precision=32-true", "split=valid", "out=/dev/null")
    [summary] = evaluate(composed("evaluate", f"ckpt={trained('lstm')}", *other))
    assert summary["tokens"] == 80
    model = LanguageModel.load(trained("lstm"))
    text = model.vocabulary.encode([EOS, *(["w1", "w2", "zebra", "<eos>"] * 20)])
    nll, _ = model.model.nll(text[:-1, None], text[1:, None])
    assert summary["loss"] == pytest.approx(nll.mean().item(), rel=1e-5)


@pytest.mark.slow
def test_results_of_other_methods_never_overwrite_each_other(trained, tmp_path, own):
    checkpoint = shutil.copy(trained("lstm"), tmp_path / "best.ckpt")
    dynamic, cache = "evaluation/dynamic=sgd", "evaluation/cache=neural"
    together = [dynamic, cache, "evaluation.temperature=0.9", "evaluation=pytorch_examples"]
    for options in ([], [dynamic], [cache], together):
        evaluate(composed("evaluate", *own, f"ckpt={checkpoint}", *options))
    titles = {path.name.partition(".test")[2]: path for path in tmp_path.glob("*.json")}
    assert set(titles) == {".json", ".dynamic.json", ".cache.json", ".pytorch_examples.dynamic.temperature.cache.json"}
    names = {title: json.loads(path.read_text())["results"][-1]["name"] for title, path in titles.items()}
    assert names[".pytorch_examples.dynamic.temperature.cache.json"] == "dynamic, temperature, cache"
    assert len(list(tmp_path.glob("*.tensorboard"))) == 4


def test_results_of_another_text_split_or_protocol_never_overwrite_each_other(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("lm.plots.save_figure", lambda figure, path: path)  # drawing takes most of the time
    monkeypatch.setattr("lm.evaluation.report.write_figures", lambda rows, folder: folder.mkdir(exist_ok=True))
    checkpoint = shutil.copy(trained("lstm"), tmp_path / "best.ckpt")
    for place, text in (("a/same", "w1 w2\n"), ("b/same", "w3 w4\n")):
        (tmp_path / place).mkdir(parents=True)
        for split in ("train", "valid", "test"):
            (tmp_path / place / f"{split}.txt").write_text(text * 20)
    for options in (["a/same"], ["b/same"], ["a/same", "split=valid"], ["a/same", "evaluation=awd_lstm"], ["a/same"]):
        root, *more = options
        other = ("data=text", f"data.root={tmp_path}/{root}", f"data.cache_dir={tmp_path}/cache", *more)
        evaluate(composed("evaluate", f"ckpt={checkpoint}", *other))
    results = sorted(path.name for path in tmp_path.glob("best.*.json"))
    a, b = (sources.digest(tmp_path / place / "same" / "test.txt")[:8] for place in "ab")
    names = {f"best.same-{a}.test", f"best.same-{b}.test", f"best.same-{a}.valid", f"best.same-{a}.test.awd_lstm"}
    assert set(results) == {f"{name}.json" for name in names}
    assert {path.name for path in tmp_path.glob("*.tensorboard")} == {f"{name}.tensorboard" for name in names}


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ({}, "The text is data=text, a folder of your own: say where it is by data.root=DIR"),
        ({"name": "../text"}, "was trained on data='../text', of which there is no"),
        ({"name": "nowhere"}, "choose one of data=ptb, python_docs, text, wikitext103, wikitext2"),
        ({"bptt": 10**9}, "its data.bptt is 1000000000, not 1 to 1000000"),
        ({"batch_size": "many"}, "its data.batch_size is 'many', not 1 to"),
    ],
)
def test_what_a_checkpoint_says_of_its_text_is_a_name_and_sizes(stored, message):
    given = composed("evaluate", "ckpt=x").data
    with pytest.raises(UserError, match=re.escape(message)):
        evaluated_data(given, {"name": "text"} | stored)


def test_source_folder_and_address_are_those_of_the_local_config_and_the_windows_those_of_training():
    stored = {
        "name": "wikitext2",
        "bptt": 70,
        "root": "/another",
        "source": {"_target_": "os.mkdir"},
        "cache_dir": "/attacked",
    }
    ours = {**composed("evaluate", "ckpt=x", "data=wikitext2").data}
    assert evaluated_data(composed("evaluate", "ckpt=x").data, stored) == ours | {"bptt": 70}
    located = evaluated_data(composed("evaluate", "ckpt=x", "data.cache_dir=here").data, stored)
    assert located == ours | {"bptt": 70, "cache_dir": "here"}


@pytest.mark.parametrize(("split", "said"), [("valid", True), ("test", False)])
def test_values_tuned_on_the_scored_split_are_said_to_be_biased(trained, capsys, split, said, own):
    options = [f"ckpt={trained('lstm')}", f"split={split}", "evaluation.tune=true", "out=/dev/null"]
    evaluate(composed("evaluate", *own, *options))
    assert ("optimistically biased: tuned on the scored split" in capsys.readouterr().out) == said


def test_ctrl_c_says_what_it_has_so_far(trained, tmp_path, own):
    config = composed("evaluate", *own, f"ckpt={trained('lstm')}", "evaluation.context=5", f"out={tmp_path}/x.json")
    with ctrl_c(window=4), pytest.raises(KeyboardInterrupt, match=r"x\.partial\.json has what was scored so far"):
        evaluate(config)
    assert not (tmp_path / "x.json").exists()
    [result] = json.loads((tmp_path / "x.partial.json").read_text())["results"]
    assert result["tokens"] == 3 * 5 * config.evaluation.batch_size
    assert not result["complete"]


def test_ctrl_c_before_a_word_is_scored_is_one_line(trained, tmp_path, own):
    config = composed("evaluate", *own, f"ckpt={trained('lstm')}", f"out={tmp_path}/x.json")
    with ctrl_c(window=1), pytest.raises(KeyboardInterrupt, match="no word was scored"):
        evaluate(config)


def test_ctrl_c_after_the_tuning_keeps_what_was_tried(trained, tmp_path, own):
    options = [f"ckpt={trained('lstm')}", "evaluation/cache=neural"]
    tuning = windows_read(*own, *options, "evaluation.tune=true") - windows_read(*own, *options)
    with (
        ctrl_c(window=tuning + 1),
        pytest.raises(KeyboardInterrupt, match=r"x\.partial\.json has what was scored so far"),
    ):
        evaluate(composed("evaluate", *own, *options, "evaluation.tune=true", f"out={tmp_path}/x.json"))
    written = json.loads((tmp_path / "x.partial.json").read_text())
    assert written["results"] == []
    assert written["tuning"]


def windows_read(*options):
    """How many windows of text a model reads in an evaluation."""
    read = []

    def note(module, *_):
        read.extend([module] if isinstance(module, Core) else [])

    with torch.nn.modules.module.register_module_forward_hook(note):
        evaluate(composed("evaluate", *options, "out=/dev/null"))
    return len(read)


def test_ctrl_c_while_models_are_mixed_keeps_their_results(trained, tmp_path, own, monkeypatch):
    def press(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("lm.evaluation.mixture.mixtures", press)
    models = f"ckpt=[{trained('lstm')},{trained('transformer')}]"
    with pytest.raises(KeyboardInterrupt, match=r"x\.partial\.json has what was scored so far"):
        evaluate(composed("evaluate", *own, models, f"out={tmp_path}/x.json"))
    assert len(json.loads((tmp_path / "x.partial.json").read_text())["results"]) == 2


@contextmanager
def ctrl_c(window):
    """Press it while a model reads its nth window."""
    counted = count(1)

    def press(module, *_):
        if isinstance(module, Core) and next(counted) == window:
            raise KeyboardInterrupt

    with torch.nn.modules.module.register_module_forward_hook(press):
        yield


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ckpt=nowhere.ckpt"], "No checkpoint at"),
        (["ckpt=x", "split=train"], "split=train given, but it must be one of valid, test"),
        (["ckpt=x", "evaluation.batch_size=many"], "evaluation.batch_size=many given, but it must be a whole number"),
        (["ckpt=x", "evaluation.temperature=0"], "temperature=0 given, but it must be at least 1e-06"),
        (["ckpt=LSTM", "evaluation.stride=5"], "this model carries its state through the whole text"),
        (["ckpt=LSTM", "out=FILE/x.json"], "Cannot write"),
        (["ckpt=LSTM", "out=FOLDER"], "Is a directory"),
        (["ckpt=x", "fabric.precision=64-true"], "fabric.precision=64-true given, but it must be one of 32-true"),
        (["ckpt=x", "fabric.devices=2"], "fabric.devices=2 given, but the text is read in order, by one device"),
        (
            ["ckpt=x", "fabric.accelerator=gpu", "fabric.devices=[99]"],
            "fabric.devices=[99] given, but this machine has",
        ),
    ],
)
def test_every_mistake_is_one_line_that_names_what_was_given(arguments, message, trained, tmp_path, own):
    (tmp_path / "file").touch()
    names = {"LSTM": str(trained("lstm")), "FILE": str(tmp_path / "file"), "FOLDER": str(tmp_path)}
    for name, value in names.items():
        arguments = [argument.replace(name, value) for argument in arguments]
    assert message in mistake(evaluate, *own, *arguments)


def test_results_in_a_device_have_no_figures_beside_them(trained, tmp_path, own, capsys):
    (tmp_path / "null").symlink_to("/dev/null")
    evaluate(composed("evaluate", *own, f"ckpt={trained('lstm')}", f"out={tmp_path}/null"))
    assert "figure: none" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["null"]


def test_several_checkpoints_and_n_grams_have_a_joint_table_with_their_mixture(trained, tmp_path, own, capsys):
    ckpts = [trained("lstm"), trained("transformer")]
    config = composed("evaluate", *own, f"ckpt=[{ckpts[0]},{ckpts[1]}]", "evaluation/ngram=kneser_ney")
    config.out, config.fabric.precision = f"{tmp_path}/x.json", "32-true"
    summaries = evaluate(config)
    names = [ckpt.parents[1].name for ckpt in ckpts]
    assert [row["name"] for row in summaries] == [*names, "5-gram", "mixture"]
    assert len({row["tokens"] for row in summaries}) == 1
    assert set(summaries[-1]["values"]) == {*names, "5-gram"}
    assert sum(summaries[-1]["values"].values()) == pytest.approx(1)
    assert summaries[-1]["loss"] < min(row["loss"] for row in summaries[:-1])
    written = json.loads((tmp_path / "x.json").read_text())
    assert written["results"] == summaries and set(written["protocols"]) == {*names, "5-gram"}
    assert f"{summaries[-1]['ppl']:,.2f}" in capsys.readouterr().out


def test_models_of_different_vocabularies_are_not_mixed(trained, tmp_path, own):
    stored = torch.load(trained("lstm"), weights_only=True)
    words = stored["lm"]["vocabulary"]
    words[5], words[6] = words[6], words[5]
    torch.save(stored, tmp_path / "other.ckpt")
    said = mistake(evaluate, *own, f"ckpt=[{trained('lstm')},{tmp_path}/other.ckpt]")
    assert f"differ from word 5 on, '{words[6]}' and '{words[5]}'" in said


@pytest.mark.parametrize("data", [[], ["data=text"]])
def test_a_model_of_tokenised_text_is_not_mixed_with_one_of_raw_text(trained, tmp_path, own, data):
    stored = torch.load(trained("lstm"), weights_only=True)
    stored["lm"]["config"]["data"]["tokenize"] = True
    torch.save(stored, tmp_path / "other.ckpt")
    said = mistake(evaluate, *own, *data, f"ckpt=[{tmp_path}/other.ckpt,{trained('lstm')}]")
    assert "one of them was trained on tokenised text" in said
