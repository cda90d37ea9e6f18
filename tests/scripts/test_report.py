"""The report of runs: a row for each group of seeds, a line for each folder that cannot be read, and a figure."""

import math
import subprocess
from unittest.mock import Mock

import pytest
from lightning import Trainer

from lm.config.cli import ERROR_FILE
from lm.training.run_folder import LOCK
from lm.training.runs import METRICS_FILE
from scripts.report import report
from scripts.train import train
from tests.conftest import composed, make_run, mistake, run, tiny_config

HEADER = "| run | overrides | validation perplexity | test perplexity | parameters | training tokens | minutes "


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|\n").split(" | ")] for line in table.splitlines()[2:]]


@pytest.fixture
def runs(tmp_path):
    """Two seeds of an LSTM, a GRU that was stopped, one that failed, and folders that are no runs."""
    folder = tmp_path / "runs"
    make_run(folder / "0", seed=1, loss=math.log(80))
    make_run(folder / "1", seed=2, loss=math.log(90))
    for name, error in (
        ("2", "stopped"),
        ("3", "The loss is nan at step 7 | <b>`x`</b>: " + "lower optimizer.lr " * 9),
    ):
        gru = make_run(folder / name, overrides=("model=gru",), model={"name": name}, loss=math.log(70))
        (gru / ERROR_FILE).write_text(error)
    (make_run(folder / "4", overrides=("model=gru",), curve=[]) / METRICS_FILE).unlink()
    (folder / "empty").mkdir()
    (folder / "broken" / ".hydra").mkdir(parents=True)
    (folder / "broken" / ".hydra" / "config.yaml").write_text("[")
    return folder


def test_the_table_has_a_row_for_each_group_and_for_each_run_that_is_not_done(runs, tmp_path, capsys):
    out = tmp_path / "table.md"
    table = report(composed("report", f"runs={runs}", f"out={out}"))
    printed = capsys.readouterr()
    assert table == printed.out == out.read_text()
    assert table.startswith(HEADER)
    group, stopped, failed, unfinished = cells(table)
    assert group[:4] == ["`runs/0 runs/1`", "`model=lstm`", "85.00 ± 7.07 (2)", "60.00 ± 0.00 (2)"]
    assert group[4:] == ["1,000", "200", "2.0", "2", "2", "20", "done"]
    assert stopped[:3] == ["`runs/2`", "`model=gru seed=1`", "70.00"]
    assert stopped[-1] == "stopped"
    assert failed[-1].startswith("failed: `The loss is nan at step 7 \\| <b>'x'</b>: ")
    assert len(failed[-1]) < 80
    assert unfinished[:2] == ["`runs/4`", "`model=gru seed=1`"]
    assert unfinished[2:] == [""] * 8 + ["unfinished"]
    assert printed.err.splitlines()[0].startswith(f"Left out: {runs}/broken/.hydra/config.yaml is damaged")


def test_several_folders_one_of_which_is_no_run_are_read_and_each_once(runs, capsys):
    table = report(composed("report", f"runs=[{runs}/0,{runs}/empty,{runs}/nothing,{runs}/0/.]"))
    assert [row[0] for row in cells(table)] == ["`0`"]
    holds_none, is_none = capsys.readouterr().err.splitlines()
    assert f"{runs}/empty holds no run of scripts/train.py" in holds_none
    assert f"{runs}/nothing is no folder" in is_none


def test_runs_of_one_text_stand_together_and_several_texts_are_warned_of(tmp_path, capsys):
    for name, text, loss in (("0", "wikitext2", 4.5), ("1", "python_docs", 4.6), ("2", "wikitext2", 4.7)):
        data = {"name": text, "source": {"_target_": "lm.data.sources.folder"}}
        make_run(tmp_path / name, data=data, overrides=(f"data={text}",), loss=loss, model={"width": int(name)})
    table = report(composed("report", f"runs={tmp_path}"))
    assert [row[1] for row in cells(table)] == [f"`data={text}`" for text in ("python_docs", "wikitext2", "wikitext2")]
    warning = "2 texts, whose perplexities cannot be compared: python_docs, wikitext2."
    assert capsys.readouterr().err.splitlines() == [warning]
    report(composed("report", f"runs=[{tmp_path}/0,{tmp_path}/2]"))
    assert capsys.readouterr().err == ""


def test_a_folder_without_runs_is_one_line(tmp_path):
    assert "no run can be read there" in mistake(report, f"runs={tmp_path}")
    assert "there must be a folder in each place" in mistake(report, "runs='[a,,b]'")
    assert "x=epochs given, but it must be one of time, tokens, steps" in mistake(report, "runs=.", "x=epochs")
    assert "its ending must be one of .png" in mistake(report, "runs=.", "plot=x.gif")


@pytest.mark.parametrize("x", ["time", "tokens", "steps"])
def test_the_figure_has_a_line_for_each_group(runs, tmp_path, monkeypatch, x):
    drawn = {}
    monkeypatch.setattr("lm.plots.learning_curves", lambda lines, label: drawn.update(lines) or figure(lines, label))
    from lm.plots.learning_curves import learning_curves as figure

    report(composed("report", f"runs={runs}", f"plot={tmp_path}/curves.png", f"x={x}"))
    assert [*drawn] == ["model=lstm (2 runs)", "model=gru seed=1 (stopped)", "model=gru seed=1 (failed)"]
    last = {"time": 2.0, "tokens": 200, "steps": 20}[x]
    assert drawn["model=lstm (2 runs)"][0][-1] == (last, math.log(80))
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_runs_whose_curve_has_no_time_are_named_and_drawn_over_steps(tmp_path, capsys):
    old = make_run(tmp_path / "old")
    (old / "csv" / "metrics.csv").write_text("step,val/loss\n9,4.0\n")
    line = mistake(report, f"runs={old}", f"plot={tmp_path}/curves.png")
    assert "no run can be drawn over x=time: try x=steps" in line
    assert "Not drawn, without validations over time: old\n" in capsys.readouterr().err
    report(composed("report", f"runs={old}", f"plot={tmp_path}/curves.png", "x=steps"))


@pytest.mark.slow
def test_the_report_of_a_real_run_and_of_one_that_fails(text_folder, tmp_path):
    """Through the command line, whose paths need no quotes."""

    def trained(name: str, *overrides: str) -> subprocess.CompletedProcess:
        options = ("trainer.max_epochs=1", "trainer.limit_train_batches=4", f"data.cache_dir={text_folder}/cache")
        options += ("~callbacks.sample_text", "~callbacks.log_prob_heat_map", "~callbacks.surprisal_text")
        options += ("~callbacks.tensorboard_layout", "data=text", f"data.root={text_folder}", "data.batch_size=4")
        return run("train", *options, *overrides, f"hydra.run.dir={tmp_path}/my runs/{name}")

    assert trained("1").returncode == 0
    assert trained(
        "2", "optimizer.lr=1e6", "trainer.gradient_clip_val=1e6", "model=rnn_relu", "scheduler=constant"
    ).returncode
    done = run("report", f"runs={tmp_path}/my runs", f"plot={tmp_path}/curves.svg", "x=tokens")
    assert done.returncode == 0, done.stderr
    first, second = cells(done.stdout)
    assert (first[0], first[-1], first[9]) == ("`my runs/1`", "done", "4")
    assert second[-1].startswith("failed: `The loss is")
    assert (tmp_path / "curves.svg").exists()


def test_a_run_that_is_resumed_after_an_error_leaves_none(text_folder, tmp_path, monkeypatch):
    options = tiny_config(text_folder, tmp_path, "trainer.max_epochs=1", "test=false")

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "fit", Mock(side_effect=KeyboardInterrupt))
        train(options)
    assert (tmp_path / ERROR_FILE).read_text() == "stopped"
    train(options)
    assert not (tmp_path / ERROR_FILE).exists()
    assert (tmp_path / LOCK).exists()
