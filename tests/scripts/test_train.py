"""The scripts end to end on a small corpus: what a user types, what a user gets."""

import csv
import json
import math
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2

from lm import LanguageModel
from lm.data import EOS
from lm.errors import UserError
from scripts.train import train
from tests.conftest import ADAM, MODELS, PROCESS_TIMEOUT, ROOT, mistake, run, small, tiny_config


@pytest.fixture(scope="module")
def run_folder(trained) -> Path:
    return trained("lstm").parents[1]


# --- train


def test_training_lowers_perplexity_and_scores_every_token(run_folder, text_folder):
    metrics = json.loads((run_folder / "metrics.json").read_text())
    words = {split: (text_folder / f"{split}.txt").read_text() for split in ("valid", "test")}
    tokens = {split: len(text.split()) + text.count("\n") for split, text in words.items()}
    assert metrics["val/tokens"] == tokens["valid"]
    assert metrics["test/tokens"] == tokens["test"]
    assert metrics["val/ppl"] < 12  # 22 words, four of five times the next one
    assert metrics["test/ppl"] == pytest.approx(math.exp(metrics["test/loss"]), rel=1e-4)


def test_training_keeps_the_best_and_the_last_checkpoint(run_folder):
    assert sorted(path.name for path in (run_folder / "checkpoints").glob("*.ckpt")) == ["best.ckpt", "last.ckpt"]


def test_checkpoint_holds_primitive_types_and_loads_with_weights_only(run_folder):
    stored = torch.load(run_folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert set(stored["lm"]) == {"config", "vocabulary"}
    assert EOS in stored["lm"]["vocabulary"]


def test_tensorboard_shows_curves_samples_figures_config_and_hyperparameters(run_folder):
    events = EventAccumulator(str(run_folder / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    expected = {
        "train/loss",
        "train/lr",
        "train/grad_norm",
        "speed/tokens_per_second",
        "speed/ms_per_batch",
        "val/loss",
    }
    perplexities = {"perplexity/train", "perplexity/validation", "test/perplexity"}
    assert set(tags["scalars"]) == expected | perplexities
    assert min(tags["scalars"]).startswith("perplexity/")  # the first group on the page
    assert {"samples/log_prob", "samples/surprisal"} == set(tags["images"])
    assert {"samples/text/text_summary", "settings/config/text_summary"} <= set(tags["tensors"])
    assert len(events.Scalars("perplexity/validation")) == 4
    assert [tag for tag in tags["scalars"] if len(events.Scalars(tag)) == 1] == ["test/perplexity"]
    steps = [event.step for event in events.Scalars("train/loss")]
    assert steps == sorted(set(steps))


def test_tensorboard_groups_curves_that_are_really_logged(run_folder):
    events = EventAccumulator(str(run_folder / "tensorboard"))
    events.Reload()
    [event] = events.Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    assert [category.title for category in layout.category] == ["learning", "speed"]
    curves = {tag for category in layout.category for chart in category.chart for tag in chart.multiline.tag}
    assert curves <= set(events.Tags()["scalars"])


def test_tensorboards_projector_shows_the_word_embeddings(run_folder):
    config = (run_folder / "tensorboard" / "projector_config.pbtxt").read_text()
    [vectors] = (run_folder / "tensorboard").rglob("tensors.tsv")
    words = vectors.with_name("metadata.tsv").read_text().splitlines()
    assert str(vectors.relative_to(run_folder / "tensorboard")) in config
    model = LanguageModel.load(run_folder / "checkpoints" / "last.ckpt")
    assert words == model.vocabulary.words
    rows = [[float(number) for number in line.split()] for line in vectors.read_text().splitlines()]
    torch.testing.assert_close(torch.tensor(rows), model.model.embedding.weight, rtol=0, atol=1e-4)


def test_tensorboard_shows_a_transformers_attention(trained):
    events = EventAccumulator(str(trained("transformer").parents[1] / "tensorboard"))
    events.Reload()
    assert "samples/attention" in events.Tags()["images"]


def test_csv_beside_tensorboard_holds_the_same_losses(run_folder):
    rows = list(csv.DictReader((run_folder / "csv" / "metrics.csv").open()))
    logged = [float(row["val/ppl"]) for row in rows if row["val/ppl"]]
    assert len(logged) == 4
    assert min(logged) == pytest.approx(json.loads((run_folder / "metrics.json").read_text())["val/ppl"], rel=1e-4)


def test_two_runs_of_one_config_give_the_same_numbers(run_folder, text_folder, tmp_path):
    again = train(tiny_config(text_folder, tmp_path, "model=lstm", *ADAM))
    assert again.items() <= json.loads((run_folder / "metrics.json").read_text()).items()


SUITED = {
    # less dropout than that of the large model: an LSTM whose dropout is 0.65 does not learn the corpus either
    "awd_lstm": ("model.core.input_dropout=0.2", "model.core.weight_dropout=0.2", "model.output_dropout=0.2"),
    "transformer_xl": ("optimizer.lr=0.01",),  # four layers with norms after them learn at no more than this
}


OTHERS = [
    pytest.param(name, marks=pytest.mark.slow) if name != "qrnn" else name
    for name in MODELS
    if name not in ("lstm", "transformer")
]


@pytest.mark.parametrize("model", OTHERS)
def test_every_core_learns_with_tied_weights(text_folder, tmp_path, model):
    """As the LSTM and the Transformer of the fixture `trained` do without."""
    options = (f"model={model}", "model.head.tie_weights=true", "test=false", *ADAM, *SUITED.get(model, ()))
    metrics = train(tiny_config(text_folder, tmp_path, *options))
    assert metrics["val/ppl"] < 12
    assert not any(name.startswith("test/") for name in metrics)


def test_a_run_that_never_validates_ends_well(text_folder, tmp_path):
    arguments = ("trainer.limit_val_batches=0", "scheduler=constant", "trainer.max_steps=3", "test=false")
    assert train(tiny_config(text_folder, tmp_path, *arguments)) == {}


def test_callbacks_can_be_left_out(text_folder, tmp_path):
    left_out = [f"~callbacks.{name}" for name in ("checkpoint", "resumable_checkpoint", "sample_text")]
    short = ("trainer.max_epochs=1", "trainer.limit_train_batches=3")
    metrics = train(tiny_config(text_folder, tmp_path, *left_out, *short))
    assert {"val/ppl", "test/ppl"} <= set(metrics)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_accumulated_steps_print_their_lines(text_folder, tmp_path, capsys):
    options = ("trainer.accumulate_grad_batches=2", "trainer.max_epochs=1", "test=false")
    train(tiny_config(text_folder, tmp_path, *options))
    assert "batch    20/" in capsys.readouterr().out


@pytest.mark.parametrize("debug", ["one_batch", "overfit", "profiler"])
def test_debug_configs_run(text_folder, tmp_path, debug):
    epochs = 100 if debug == "overfit" else 1
    config = tiny_config(text_folder, tmp_path, f"debug={debug}", f"trainer.max_epochs={epochs}", *ADAM)
    metrics = train(config)
    assert "val/ppl" in metrics
    if debug == "overfit":
        rows = csv.DictReader((tmp_path / "csv" / "metrics.csv").open())
        losses = [float(row["train/loss"]) for row in rows if row["train/loss"]]
        assert losses[-1] < 0.5 < losses[0]
    if debug == "profiler":
        assert list(tmp_path.glob("*profile*"))


@pytest.mark.slow
def test_two_processes_train_as_typed_and_score_every_token_once(text_folder, tmp_path, run_folder):
    arguments = small(text_folder, "model=transformer", "trainer.devices=2", "optimizer.lr=1", "trainer.max_epochs=1")
    done = run("train", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("tokens scored") == 1
    [folder] = (tmp_path / "runs" / "train").iterdir()
    metrics = json.loads((folder / "metrics.json").read_text())
    alone = json.loads((run_folder / "metrics.json").read_text())
    assert (metrics["val/tokens"], metrics["test/tokens"]) == (alone["val/tokens"], alone["test/tokens"])


@pytest.mark.slow
def test_multirun_leaves_a_table_of_all_jobs(text_folder, tmp_path):
    arguments = small(text_folder, "trainer.max_epochs=1", "test=false", "model=lstm,transformer", "optimizer.lr=2")
    done = run("train", "-m", *arguments, "hydra.sweep.dir=sweep", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((tmp_path / "sweep" / "sweep.csv").open()))
    assert {row["status"] for row in rows} == {"done"}
    assert {"model=lstm", "model=transformer"} == {
        word for row in rows for word in row["overrides"].split() if word.startswith("model=")
    }
    perplexities = [float(row["val/ppl"]) for row in rows]
    assert perplexities == sorted(perplexities)
    assert "sweep.csv" in done.stdout


@pytest.mark.slow
def test_a_job_that_fails_is_a_row_that_says_so(text_folder, tmp_path):
    arguments = small(text_folder, "trainer.max_epochs=1", "test=false", "model.core.dropout=2,0.1")
    done = run("train", "-m", *arguments, "hydra.sweep.dir=sweep", cwd=tmp_path)
    assert done.returncode != 0
    assert "dropout=2 given" in done.stderr
    assert "Traceback" not in done.stderr
    rows = list(csv.DictReader((tmp_path / "sweep" / "sweep.csv").open()))
    reason = "failed: model.core.dropout=2 given, but it must be at least 0 and below 1."
    assert [(row["job"], row["status"]) for row in rows] == [("1", "done"), ("0", reason)]
    assert "failed" in done.stdout
    assert "data.bptt=8" not in done.stdout.partition("┃ job")[2]  # which all jobs share


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_launchers_run_jobs_side_by_side_and_tell_of_those_that_diverge(text_folder, tmp_path, launcher):
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    arguments = small(text_folder, "model=rnn_relu", "trainer.gradient_clip_val=null", "trainer.max_epochs=1")
    arguments += [f"hydra/launcher={launcher}", "optimizer.lr=1e6,0.1", "hydra.sweep.dir=sweep"]
    done = run("train", "-m", *arguments, cwd=tmp_path)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    rows = list(csv.DictReader((tmp_path / "sweep" / "sweep.csv").open()))
    assert [row["job"] for row in rows] == ["1", "0"]
    assert rows[0]["status"] == "done"
    assert rows[1]["status"].startswith("failed: The loss is")


@pytest.mark.slow
@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_stops_and_tests_and_a_second_one_quits(text_folder, tmp_path, presses):
    arguments = small(text_folder, "trainer.max_epochs=100000", "hydra.run.dir=run")
    command = [sys.executable, ROOT / "scripts" / "train.py", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path
    ) as process:
        for line in process.stdout:
            if "validation after" in line:
                break
        output = ""
        for press in range(presses):
            process.send_signal(signal.SIGINT)
            while press < presses - 1 and "Stopping after" not in output:  # two at once may be one
                output += process.stdout.readline()
        output += process.communicate(timeout=PROCESS_TIMEOUT)[0]
    if presses == 1:
        assert process.returncode == 0, output
        assert "Stopping after the next step" in output
        assert "test" in output
        assert "test/ppl" in json.loads((tmp_path / "run" / "metrics.json").read_text())
    else:
        assert process.returncode != 0
        assert not (tmp_path / "run" / "metrics.json").exists()


def test_printing_the_config_imports_no_torch():
    imported = subprocess.run(
        [sys.executable, "-X", "importtime", ROOT / "scripts" / "train.py", "--cfg", "job"],
        capture_output=True,
        text=True,
    )
    assert imported.returncode == 0
    assert " torch" not in imported.stderr


# --- mistakes


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("train", ["model=elman"], "The options are awd_lstm, gru, lstm"),
        pytest.param(
            "train",
            ["-m", "trainer.devices=2", "model=lstm,gru"],
            "devices=2 given in a multirun",
            marks=pytest.mark.slow,
        ),
        ("generate", ["ckpt=x", "temperature=0"], "temperature=0 given, but it must be"),
    ],
)
def test_a_users_mistake_is_a_message_without_traceback(script, arguments, message, tmp_path):
    done = run(script, *arguments, cwd=tmp_path)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    if "-m" not in arguments:
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (train, ["data=text"], "data.root"),
        (train, ["model=transformer", "model.core.num_heads=7"], "num_heads=7 given, but it must divide"),
        (train, ["model.embedding.pretrained=nowhere"], "model.embedding.pretrained=nowhere given, but there is no"),
        (train, ["data=text", "data.root=nowhere"], "No text in root="),
        (train, ["data=text", "data.root=TEXT", "data.batch_size=9999"], "batch_size=9999 given, but"),
    ],
)
def test_every_mistake_is_one_line_that_names_what_was_given(function, arguments, message, text_folder, tmp_path):
    arguments = [argument.replace("TEXT", str(text_folder)) for argument in arguments]
    if function is train:
        arguments += [f"data.cache_dir={tmp_path}", f"run_dir={tmp_path}"]
    assert message in mistake(function, *arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_devices_that_are_not_there_are_refused_before_any_text_is_read(tmp_path):
    config = tiny_config(tmp_path / "nowhere", tmp_path, "trainer=gpu")
    with pytest.raises(UserError, match=r"trainer\.devices=1 given, but this machine has 0 CUDA GPUs"):
        train(config)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_trains_as_a_cpu_does(text_folder, tmp_path, run_folder):
    metrics = train(tiny_config(text_folder, tmp_path, "trainer=gpu", "model=lstm", *ADAM))
    assert metrics["val/ppl"] == pytest.approx(
        json.loads((run_folder / "metrics.json").read_text())["val/ppl"], rel=0.05
    )
