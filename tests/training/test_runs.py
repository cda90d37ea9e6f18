"""Run folders as data: what a run, a resumed, a stopped and a stranger's broken one tell, and which belong together."""

import json
import os
import time

import pytest

from lm.config.cli import ERROR_FILE
from lm.errors import UserError
from lm.training.runs import DONE, METRICS_FILE, groups_of, read_curve, read_run, run_folders
from tests.conftest import make_run


def test_a_run_has_what_its_files_tell(tmp_path):
    row = read_run(make_run(tmp_path / "run", seed=3, loss=4.0), "run")
    assert (row["job"], row["overrides"], row["seed"], row["status"]) == ("run", "model=lstm seed=3", 3, DONE)
    assert (row["val/loss"], row["test/ppl"], row["parameters"], row["epochs"]) == (4.0, 60.0, 1000, 2)
    assert row["curve"] == [
        {"step": 10, "val/loss": 5.0, "train/minutes": 1.0, "train/tokens": 100},
        {"step": 20, "val/loss": 4.0, "train/minutes": 2.0, "train/tokens": 200},
    ]


def test_runs_that_differ_in_the_seed_alone_are_a_group_wherever_their_text_and_folders_are(tmp_path):
    source = {"_target_": "lm.data.sources.download"}
    first = make_run(tmp_path / "a", seed=1, data={"source": source, "root": "/home/one", "cache_dir": "/x"})
    other = make_run(tmp_path / "b", seed=2, data={"source": source, "root": "/home/two", "cache_dir": "/y"})
    wider = make_run(tmp_path / "c", seed=2, data={"source": source}, model={"width": 2}, loss=3.0)
    rows = [read_run(folder, folder.name) for folder in (first, other, wider)]
    assert [[row["job"] for row in group] for group in groups_of(rows)] == [["c"], ["a", "b"]]
    source = {"_target_": "lm.data.sources.file_or_folder"}
    folders = [make_run(tmp_path / each, data={"source": source, "root": each}) for each in "de"]
    assert len(groups_of([read_run(folder, folder.name) for folder in folders])) == 2  # other texts


def test_a_resumed_run_continues_its_curve_from_the_step_that_it_began_at(tmp_path):
    run = make_run(tmp_path / "run", curve=[(10, 5.0), (20, 4.0), (30, 9.0)])
    make_run(tmp_path / "again", curve=[(30, 3.0), (40, 2.0)])
    (tmp_path / "again" / "csv").rename(run / "csv_20")
    assert [(point["step"], point["val/loss"]) for point in read_curve(run)] == [(10, 5), (20, 4), (30, 3), (40, 2)]


def test_a_run_without_results_has_those_of_its_curve_so_far(tmp_path):
    run = make_run(tmp_path / "run", curve=[(10, 4.0), (20, 4.5)])
    (run / METRICS_FILE).unlink()
    row = read_run(run, "run")
    assert (row["status"], row["val/loss"], row["steps"], row["train/tokens"]) == ("unfinished", 4.0, 20, 200)
    assert row["parameters"] is row["test/ppl"] is None
    (run / "csv" / "metrics.csv").unlink()
    assert read_run(run, "run")["val/ppl"] is None


@pytest.mark.parametrize(("text", "status"), [("stopped", "stopped"), ("The loss is nan.", "failed: The loss is nan.")])
def test_a_stopped_and_a_failed_run_are_in_no_group(tmp_path, text, status):
    run = make_run(tmp_path / "run")
    (run / ERROR_FILE).write_text(text)
    row = read_run(run, "run")
    assert (row["status"], groups_of([row])) == (status, [])


def test_a_folder_is_a_run_or_holds_several(tmp_path):
    run = make_run(tmp_path / "run")
    make_run(tmp_path / "sweep" / "1")
    make_run(tmp_path / "sweep" / "0")
    assert [name for name, _ in run_folders(run)] == ["run"]
    assert [name for name, _ in run_folders(tmp_path / "sweep")] == ["sweep/0", "sweep/1"]
    assert [*run_folders(tmp_path / "nothing")] == []


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
BROKEN = {
    ".hydra/config.yaml": ["model: [", "", "seed: 1", "[1]", "model: !!python/object/apply:os.system [echo]", BOMB],
    ".hydra/overrides.yaml": ["a: b: c", "{a: 1}", "- !!python/name:os.system", '["\\x1b[2J"]'],
    METRICS_FILE: ["{", "[1]", '"text"', '{"val/ppl": NaN}', "[" * 100_000],
    "csv/metrics.csv": ["step,val/loss\n1," + "9" * 200_000],
}


@pytest.mark.parametrize(("file", "content"), [(name, each) for name, contents in BROKEN.items() for each in contents])
def test_a_strangers_broken_folder_is_one_line_that_runs_nothing(tmp_path, file, content):
    run = make_run(tmp_path / "run")
    (run / file).write_text(content)
    started = time.perf_counter()
    with pytest.raises(UserError, match=r"is damaged|is refused|is no run") as caught:
        read_run(run, "run")
    assert time.perf_counter() - started < 5
    assert str(caught.value).isprintable()
    assert str(run) in str(caught.value)


def test_interpolations_stay_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setitem(os.environ, "SECRET", "secret")
    run = make_run(tmp_path / "run", model={"name": "${oc.env:SECRET}"}, seed="${oc.env:SECRET}")
    row = read_run(run, "run")
    assert "secret" not in json.dumps(row)
    assert row["seed"] is None


def test_numbers_of_another_kind_are_left_out(tmp_path):
    run = make_run(tmp_path / "run")
    (run / METRICS_FILE).write_text('{"val/ppl": "many", "test/ppl": [1], "minutes": true, "parameters": 7}')
    row = read_run(run, "run")
    assert [row[name] for name in ("val/ppl", "test/ppl", "minutes", "parameters")] == [None, None, None, 7]


def test_results_of_before_a_run_was_resumed_are_not_its_results(tmp_path):
    run = make_run(tmp_path, loss=4.0, curve=[(10, 5.0), (20, 4.0), (30, 3.5)])
    row = read_run(run, "run")
    assert row["status"] == "unfinished"
    assert (row["steps"], row["val/loss"], row["test/ppl"]) == (30, 3.5, None)
