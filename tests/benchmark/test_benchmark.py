"""The benchmark as a user runs it: races of small models over a small text, and clear refusals."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from lm.benchmark.race import Side, race
from lm.benchmark.report import chart, rows, table
from lm.errors import UserError
from scripts.benchmark import races
from tests.conftest import CONF, wait_for

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark.py"


def plan(*overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return list(races(compose("benchmark", ["data=python_docs", *overrides])))


def run_benchmark(text_folder, tmp_path, *overrides):
    command = [sys.executable, str(SCRIPT), "data=text", f"data.root={text_folder}", f"data.cache_dir={tmp_path}"]
    command += ["data.batch_size=4", "rounds=1", "steps=3", "words=3", f"out={tmp_path}/speed", *overrides]
    return subprocess.run(command, capture_output=True, text=True, timeout=200)


@pytest.mark.slow
def test_every_kind_of_work_can_be_raced_and_is_printed_and_written(text_folder, tmp_path):
    adaptive = 'sides.adaptive=["model/head=adaptive","model.head.cutoffs=[5]"]'
    done = run_benchmark(text_folder, tmp_path, adaptive, "only=[transformer]")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "speed.json").read_text())
    rows = report["rows"]
    assert len(rows) == 3 + 3 + 2 + 2 + 2
    assert all(row["milliseconds"] > 0 and row["times_faster"] > 0 for row in rows)
    assert [row["steps"] for row in rows[:3]] == [10, 10, 10]  # two rounds of two to warm up and three more
    assert [(row["work"], row["side"]) for row in rows[-2:]] == [("corpus ready", "plain"), ("corpus ready", "cached")]
    assert report["machine"]["threads"] >= 1
    assert (tmp_path / "speed.png").stat().st_size > 1000


def test_every_model_runs_against_the_plain_loop_and_the_plain_loop_comes_first():
    named = plan("work=[train]")  # (work, model, sides)
    assert [model for _, model, _ in named] == ["rnn_tanh", "lstm", "gru", "transformer", "lstm_650_tied"]
    assert all(sides[0].name == "plain" for *_, sides in named)
    tied = named[-1][2][1].config["model"]
    assert (tied["core"]["hidden_size"], tied["head"]["tie_weights"]) == (650, True)
    adaptive = named[1][2][-1].config["model"]["head"]["_target_"]
    assert adaptive == "lm.models.AdaptiveHead"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("work=[fly]", "work=fly given, but it must be one of train"),
        ("only=[lstn]", "only=lstn given, but it must be one of rnn_tanh"),
        ("rounds=x", "rounds=x given, but it must be of type int"),
        ("only=lstm", "only=lstm given, but it must be of type"),
        ("rounds=0", "rounds=0 given, but it must be at least 1"),
    ],
)
def test_what_cannot_be_run_is_refused_by_name(override, message):
    with pytest.raises(UserError, match=message.replace("[", r"\[")):
        plan(override)


def test_ratios_are_to_the_first_side_and_losses_of_the_last_third():
    sides = [
        Side("plain", "", {}, 1, [0.2, 0.4, 0.3], 100.0, [9.0, 9.0, 3.0]),
        Side("fast", "", {}, 1, [0.1, 0.1, 0.1], 25.0, [9.0, 9.0, 2.0]),
    ]
    plain, fast = rows("training step", "gru", sides)
    assert (plain["times_faster"], plain["memory"], plain["loss"]) == (1, 1, 3)
    assert fast["times_faster"] == pytest.approx(3)
    assert (fast["memory"], fast["loss"], fast["spread"]) == (0.25, 2, 0)
    assert table([plain, fast]).row_count == 2
    assert len(chart([plain, fast]).axes[0].patches) == 1


def test_a_side_whose_steps_need_no_further_memory_has_no_ratio():
    sides = [Side("plain", "", {}, 1, [0.2, 0.4], 0.0), Side("cached", "", {}, 1, [0.1, 0.1], 5.0)]
    assert [row["memory"] for row in rows("corpus ready", "", sides)] == [None, None]


@pytest.mark.slow
def test_both_sides_train_on_the_same_windows_to_comparable_losses(text_folder, tmp_path):
    done = run_benchmark(text_folder, tmp_path, "work=[train]", "only=[gru]", "models.gru.sides=[fp32]", "steps=100")
    assert done.returncode == 0, done.stderr
    plain, ours = json.loads((tmp_path / "speed.json").read_text())["rows"]
    assert plain["steps"] == ours["steps"] == 204
    assert ours["loss"] == pytest.approx(plain["loss"], abs=0.2)


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_ends_all_sides_in_one_line(text_folder, tmp_path):
    command = [sys.executable, str(SCRIPT), "data=text", f"data.root={text_folder}", f"data.cache_dir={tmp_path}"]
    command += ["data.batch_size=4", "work=[train]", "only=[gru]", "models.gru.sides=[fp32]", "rounds=100000"]
    process = subprocess.Popen(
        [*command, f"out={tmp_path}/speed"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    )
    wait_for(process, "train gru")
    time.sleep(20)  # both sides take turns by now
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert len(stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_side_that_cannot_be_built_is_one_line(text_folder, tmp_path):
    done = run_benchmark(text_folder, tmp_path, "work=[train]", "only=[gru]")
    assert done.returncode == 1
    assert done.stderr.startswith("cutoffs=[2000, 10000] given, but the vocabulary has 22 words")
    assert len(done.stderr.splitlines()) == 1


def test_a_side_that_fails_says_why():
    with pytest.raises(RuntimeError, match=r"(?s)broken failed.*KeyError"):
        race([Side("broken", "lm.benchmark.plain.read", {})], rounds=1, steps=1)
