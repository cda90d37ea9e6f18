"""The benchmark as a user runs it: races of small models over a small text, and clear refusals."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from pkgutil import resolve_name
from unittest.mock import patch

import psutil
import pytest
import torch

from lm.benchmark import learning
from lm.benchmark.race import Side, race
from lm.benchmark.report import LIMIT, chart, rows, table
from lm.errors import UserError
from scripts.benchmark import races
from tests.conftest import PROCESS_TIMEOUT, composed, needs_gpu, parsed, wait_for

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark.py"


def plan(text_folder, *overrides):
    with patch("lm.benchmark.training_config.compose", lambda script, lines: composed(script, *lines)):
        return list(races(composed("benchmark", "data=text", f"data.root={text_folder}", *overrides)))


def run_benchmark(text_folder, tmp_path, *overrides):
    command = [sys.executable, str(SCRIPT), "data=text", f"data.root={text_folder}", f"data.cache_dir={tmp_path}"]
    command += ["data.batch_size=4", "rounds=1", "steps=3", "words=3", f"out={tmp_path}/speed", *overrides]
    return subprocess.run(command, capture_output=True, text=True, timeout=PROCESS_TIMEOUT)


@pytest.mark.slow
def test_every_kind_of_work_can_be_raced_and_is_printed_and_written(text_folder, tmp_path):
    adaptive = 'sides.adaptive=["model/head=adaptive","model.head.cutoffs=[5]"]'
    sampled = 'sides.sampled=["model/head=sampled","model.head.num_frequent=5"]'
    work = "work=[train,loss,evaluate,generate,streams,read]"
    done = run_benchmark(text_folder, tmp_path, adaptive, sampled, "only=[transformer]", work, "chunks=[20]")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "speed.json").read_text())
    rows = report["rows"]
    assert len(rows) == 5 + 4 + 4 + 2 + 2 + 2
    assert all(row["ms"] > 0 and row["times_faster"] > 0 for row in rows)
    assert [row["side"] for row in rows[:5]] == ["plain", "fast", "sampled", "adaptive", "fast limit"]
    assert [row["steps"] for row in rows[:4]] == [10] * 4  # two rounds of two to warm up and three more
    assert [row["limit"] is not None for row in rows[:5]] == [False, True, False, False, False]
    assert [row["side"] for row in rows[5:9]] == ["plain", "torch", "torch in chunks of 20", "fast"]
    assert [(row["work"], row["side"]) for row in rows[-2:]] == [("corpus ready", "plain"), ("corpus ready", "cached")]
    assert report["machine"]["threads"] >= 1
    assert report["machine"]["gflops"]["float32"] > 1
    assert (tmp_path / "speed.png").stat().st_size > 1000


def test_every_model_runs_against_the_plain_loop_and_the_plain_loop_comes_first(text_folder):
    named = plan(text_folder, "work=[train]")  # (work, model, sides)
    assert [model for _, model, _ in named] == ["rnn_tanh", "lstm", "gru", "transformer", "lstm_650_tied"]
    assert all(sides[0].name == "plain" for *_, sides in named)
    tied = named[-1][2][1].config["model"]
    assert (tied["core"]["hidden_size"], tied["head"]["tie_weights"]) == (650, True)
    lstm = {side.name: side.config["model"]["head"]["_target_"] for side in named[1][2]}
    assert lstm["adaptive"] == "lm.models.AdaptiveHead"
    assert [name for name in lstm if name.endswith(LIMIT)] == ["fast limit", "fp32 limit"]  # of the exact softmax


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("work=[fly]", "work=fly given, but it must be one of train"),
        ("only=[lstn]", "only=lstn given, but it must be one of rnn_tanh"),
        ("rounds=x", "rounds=x given, but it must be of type int"),
        ("only=lstm", "only=lstm given, but it must be of type"),
        ("rounds=0", "rounds=0 given, but it must be at least 1"),
        ("learn.steps=0", "steps=0 given, but it must be at least 1"),
        ("work=[]", "work=[] given, but then there is nothing to run"),
        ("chunks=[100,0]", "chunks[1]=0 given, but it must be at least 1"),
        (
            'models.gru.overrides=["model=awd_lstm"]',
            "model=awd_lstm given, but the plain loop has no lm.models.WeightDropCore",
        ),
        ('models.gru.overrides=["model=transformer","model.core.norm=pre"]', "has only model.core.norm=post, not pre"),
        (
            'models.gru.overrides=["model=transformer","model.core.hidden_size=100"]',
            "only model.core.hidden_size=200, not 100",
        ),
        ('models.gru.overrides=["model/head=mixture"]', "has only model.head._target_=lm.models.SoftmaxHead"),
        ('models.gru.overrides=["model.output_dropout=0.5"]', "has only model.output_dropout=0.2, not 0.5"),
        (
            'models.gru.overrides=["model.head.tie_weights=true","model.core.hidden_size=100"]',
            "only model.core.hidden_size=200, not 100",
        ),
        ('models.gru.overrides=["optimizer=adamw"]', "has only optimizer._target_=lm.training.optimizers.SGD"),
        (
            'models.gru.overrides=["modle=gru"]',
            "modle=gru given, but a side takes only overrides of seed, model",
        ),
        ('models.gru.overrides=["model=grv"]', "Could not find 'model/grv'"),
        ('models.gru.overrides=["regularizer=ar_tar"]', "regularizer=ar_tar given, but a side takes only"),
        ('models.gru.overrides=["model.num_params=2M"]', "a side has no model.num_params: give model.core.hidden_size"),
        ('models.gru.overrides=["trainer.accumulate_grad_batches=2"]', "only trainer.accumulate_grad_batches=1, not 2"),
        ('models.gru.overrides=["trainer.gradient_clip_val=null"]', "only gradients that are clipped"),
        ('sides.fast=["trainer.precision=bf16-true"]', "only trainer.precision=32-true or 32 or bf16-mixed, not"),
        ('sides.fast=["trainer.max_steps=10"]', "a side has only trainer.max_steps=-1, not 10"),
        ('sides.fast=["+trainer.max_time=00:01:00"]', "a side has only trainer.max_time=None"),
        ('sides.fast=["optimizer.lr=-1"]', "optimizer.lr=-1 given, but it must be a"),
        ("chunks=[x]", "chunks=['x'] given, but it must be of type list"),
        ("accelerator=tpu", "accelerator=tpu given, but it must be one of cpu, gpu"),
        ('models.gru.overrides=["trainer.max_epochs=x"]', "trainer.max_epochs=x given, but it must be of type"),
    ],
)
def test_what_cannot_be_run_is_refused_by_name(override, message, text_folder):
    with pytest.raises(UserError, match=re.escape(message)):
        plan(text_folder, *(each for each in ("work=[train]", "only=[gru]") if each[:5] != override[:5]), override)


def test_words_and_windows_are_those_of_the_plain_loop_but_for_the_words_of_cutoffs(text_folder):
    options = ("data.min_count=3", "data.bptt_jitter=true", "data.partial_shuffle=true", "only=[lstm]")
    for work, min_count in (("train", 1), ("cutoffs", 3)):
        [(*_, sides)] = plan(text_folder, *options, f"work=[{work}]")
        texts = [side.config["data"] for side in sides]
        assert {each["min_count"] for each in texts} == {min_count}
        assert not any(each["bptt_jitter"] or each["partial_shuffle"] for each in texts)
    with pytest.raises(UserError, match=r"sides.adaptive=\[\] given, but work=cutoffs is for an adaptive softmax"):
        plan(text_folder, "work=[cutoffs]", "sides.adaptive=[]")


def test_what_the_plain_loop_does_not_do_with_a_text_is_refused_on_the_command_line(text_folder, monkeypatch):
    typed = parsed("data.min_count=3")
    monkeypatch.setattr("lm.benchmark.training_config.task_overrides", lambda: [typed])
    assert plan(text_folder, "work=[cutoffs]", "only=[lstm]", "data.min_count=3")
    with pytest.raises(UserError, match=r"^data.min_count=3 given, but a benchmark has only data.min_count=1\.$"):
        plan(text_folder, "work=[train]", "only=[lstm]", "data.min_count=3")


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_a_gpu_that_is_not_there_is_refused_before_any_race(text_folder):
    with pytest.raises(UserError, match=r"trainer.accelerator=gpu .* this machine has 0 CUDA GPUs"):
        plan(text_folder, "accelerator=gpu", "only=[gru]", "work=[train]")


@needs_gpu
@pytest.mark.slow
def test_all_work_runs_on_a_gpu(text_folder, tmp_path):
    sampled = 'sides.sampled=["model/head=sampled","model.head.num_frequent=5"]'
    options = [
        "accelerator=gpu",
        "work=[train,loss,evaluate,generate,streams]",
        "models.transformer.sides=[fast,sampled]",
    ]
    done = run_benchmark(text_folder, tmp_path, *options, sampled, "only=[transformer]", "chunks=[20]")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "speed.json").read_text())
    assert report["machine"]["gpu"]
    assert all(row["MB"] >= 0 for row in report["rows"])


def test_ratios_are_to_the_first_side_and_losses_of_the_last_third():
    sides = [
        Side("plain", "", {}, 1, [0.2, 0.4, 0.3], 100.0, [9.0, 9.0, 3.0]),
        Side("fast", "", {}, 1, [0.1, 0.1, 0.1], 25.0, [9.0, 9.0, 2.0]),
        Side("fast limit", "", {}, 1, [0.08, 0.08, 0.08], 10.0),
    ]
    plain, fast, limit = rows("training step", "gru", sides)
    assert (plain["times_faster"], plain["memory"], plain["loss"]) == (1, 1, 3)
    assert fast["times_faster"] == pytest.approx(3)
    assert (fast["memory"], fast["loss"], fast["spread"]) == (0.25, 2, 0)
    assert (plain["limit"], fast["limit"], limit["limit"]) == (None, pytest.approx(0.8), None)
    assert table([plain, fast, limit]).row_count == 3


def test_the_chart_has_a_line_for_each_race_and_a_dot_for_each_side():
    races = [
        {"work": "word", "model": "gru", "side": "plain", "times_faster": 1.0},
        {"work": "word", "model": "gru", "side": "fast", "times_faster": 3.0},
        {"work": "word", "model": "gru", "side": "fast limit", "times_faster": 4.0},
        {"work": "corpus", "model": "", "side": "fast", "times_faster": 2.0},
    ]
    axis = chart(races).axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["word: gru", "corpus"]
    dots = {line.get_label(): line.get_xydata().tolist() for line in axis.lines[:2]}
    assert dots == {"plain": [[1, 0]], "fast": [[3, 0], [2, 1]]}


def test_the_time_to_the_plain_loops_perplexity_is_interpolated_between_validations():
    plain = Side("plain", "", {}, answers=[(10.0, 6.0), (10.0, 5.0)])
    sides = [
        plain,
        Side("fast", "", {}, answers=[(2.0, 5.5), (2.0, 4.5)]),
        Side("worse", "", {}, answers=[(25.0, 5.5)]),
    ]
    first, fast, worse = learning.rows("validation perplexity", "lstm", sides)
    assert (first["seconds_to_first"], first["times_sooner"]) == (20, 1)
    assert (fast["seconds_to_first"], fast["times_sooner"]) == (3, pytest.approx(20 / 3))
    assert (worse["seconds_to_first"], worse["times_sooner"]) == (None, None)
    assert [row["seconds"] for row in (first, fast, worse)] == [20, 4, 25]
    assert len(learning.curves([first, fast, worse]).axes[0].get_legend().get_texts()) == 3


@pytest.mark.slow
def test_validation_curves_of_the_sides_are_measured_until_they_are_as_good_as_the_plain_loop(text_folder, tmp_path):
    options = ["work=[learn]", "only=[gru]", "models.gru.sides=[fp32]", "learn.steps=5", "learn.rounds=3"]
    done = run_benchmark(text_folder, tmp_path, *options)
    assert done.returncode == 0, done.stderr
    plain, ours = json.loads((tmp_path / "speed.json").read_text())["rows"]
    assert len(plain["curve"]) == 3
    assert ours["perplexity"] <= plain["perplexity"] or ours["seconds"] >= plain["seconds"]
    assert (tmp_path / "speed.gru.png").stat().st_size > 1000


def test_a_side_whose_steps_need_no_further_memory_has_no_ratio():
    sides = [Side("plain", "", {}, 1, [0.2, 0.4], 0.0), Side("cached", "", {}, 1, [0.1, 0.1], 5.0)]
    assert [row["memory"] for row in rows("corpus ready", "", sides)] == [None, None]


class Enough(Exception):
    pass


@pytest.mark.slow
def test_both_sides_train_on_the_same_windows_to_comparable_losses(text_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ("work=[train]", "only=[gru]", "models.gru.sides=[fp32]", "data.batch_size=4")
    [(_, _, [plain, ours, _])] = plan(text_folder, *options, f"data.cache_dir={tmp_path}")
    losses = []
    for side in (plain, ours):
        answers = []

        def next_turn(loss=None, answers=answers):
            answers.append(loss)
            if len(answers) > 204:
                raise Enough

        with pytest.raises(Enough):
            resolve_name(side.function)(side.config, next_turn)
        losses.append(sum(answers[1:]) / 204)
    assert losses[0] == pytest.approx(losses[1], abs=0.2)


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_ends_all_sides_in_one_line(text_folder, tmp_path):
    command = [sys.executable, str(SCRIPT), "data=text", f"data.root={text_folder}", f"data.cache_dir={tmp_path}"]
    command += ["data.batch_size=4", "work=[train]", "only=[gru]", "models.gru.sides=[fp32]", "rounds=100000"]
    process = subprocess.Popen(
        [*command, f"out={tmp_path}/speed"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    )
    wait_for(process, "train gru")
    sides = psutil.Process(process.pid)
    while len(sides.children()) < 4:  # three sides and multiprocessing's tracker of resources
        assert process.poll() is None
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=PROCESS_TIMEOUT)
    assert process.returncode == 130
    assert len(stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_side_that_cannot_be_built_is_one_line(text_folder, tmp_path):
    done = run_benchmark(text_folder, tmp_path, "work=[train]", "only=[gru]", "models.gru.sides=[adaptive]")
    assert done.returncode == 1
    assert done.stderr.startswith("cutoffs=[2000, 10000] given, but the vocabulary has 22 words")
    assert len(done.stderr.splitlines()) == 1


def test_a_side_that_fails_says_why():
    with pytest.raises(RuntimeError, match=r"(?s)broken failed.*KeyError"):
        race([Side("broken", "lm.benchmark.plain.read", {})], rounds=1, steps=1)
