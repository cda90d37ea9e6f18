"""What ckpt= may be, in every script."""

import os
from pathlib import Path

import pytest

from lm import LanguageModel
from lm.checkpoints.find import (
    announced_checkpoint,
    announced_checkpoints,
    default_output_path,
    find_checkpoint,
    run_names,
)
from lm.errors import UserError
from scripts.export import export
from tests.conftest import ADAM, composed, tiny_config


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Two runs; the second one is the newest and has no best.ckpt."""
    monkeypatch.chdir(tmp_path)
    for time, path in enumerate(("1/checkpoints/best.ckpt", "1/checkpoints/last.ckpt", "2/checkpoints/last.ckpt"), 1):
        file = Path("runs/train", path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        os.utime(file, (time, time))
    return Path("runs/train")


def test_a_file_a_run_folder_and_words_for_the_newest_run_are_found(runs):
    best = runs / "1/checkpoints/best.ckpt"
    for given in (best, runs / "1", f"{runs}/1/", runs / "1/checkpoints", "best"):
        assert find_checkpoint(given) == best
    assert find_checkpoint("last") == runs / "2/checkpoints/last.ckpt"
    assert find_checkpoint(runs / "1", "last.ckpt") == runs / "1/checkpoints/last.ckpt"


def test_an_exported_folder_stands_for_itself(tmp_path):
    (tmp_path / "config.json").touch()
    assert find_checkpoint(tmp_path) == tmp_path


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("runs/train/2", r"no checkpoints/best\.ckpt in this folder: .*there is runs/train/2/checkpoints/last\.ckpt"),
        ("runs/train", r"there is runs/train/2/checkpoints/last\.ckpt, runs/train/1/checkpoints/last\.ckpt"),
        ("nowhere", r"No checkpoint at ckpt=nowhere: .*there is runs/train/1/checkpoints/best\.ckpt"),
    ],
)
def test_what_is_missing_is_answered_by_what_there_is(runs, given, message):
    with pytest.raises(UserError, match=message):
        find_checkpoint(given)


def test_links_to_nothing_are_no_checkpoints(runs):
    (runs / "3" / "checkpoints").mkdir(parents=True)
    (runs / "3" / "checkpoints" / "best.ckpt").symlink_to("gone")
    assert find_checkpoint("best") == runs / "1" / "checkpoints" / "best.ckpt"
    with pytest.raises(UserError, match=r"no checkpoints/best\.ckpt in this folder: give a \.ckpt file\.$"):
        find_checkpoint(runs / "3")


def test_without_a_run_there_is_no_newest_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for given in ("last", "best"):
        with pytest.raises(UserError, match=f"ckpt={given} given, but no run in runs/train has a {given}.ckpt"):
            find_checkpoint(given)


def test_the_file_that_was_taken_is_named(runs, capsys):
    announced_checkpoint("last")
    assert capsys.readouterr().err == "loading runs/train/2/checkpoints/last.ckpt\n"


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ("best.ckpt", "best.json"),
        ("../best.v2.ckpt", "../best.v2.json"),
        ("folder.v1", "folder.v1.json"),
        ("..", "../../up.json"),
    ],
)
def test_a_result_lies_beside_its_checkpoint_by_a_plain_path(tmp_path, monkeypatch, given, place):
    here = tmp_path / "up" / "here"
    (here / "folder.v1").mkdir(parents=True)
    monkeypatch.chdir(here)
    found = default_output_path(given, ".json")
    assert found == (here / place).resolve()
    assert ".." not in found.parts


def test_a_run_folder_loads_and_its_results_lie_beside_its_checkpoint(trained):
    folder = trained("lstm").parents[1]
    assert LanguageModel.load(folder).vocabulary.words
    written = export(composed("export", f"ckpt={folder}", "format=vectors"))
    assert written == folder / "checkpoints" / "best.vectors.txt"
    written.unlink()


def test_training_goes_on_from_a_run_folder_but_not_from_best(trained, text_folder, tmp_path):
    from lm.training.resume.choose import continue_run

    folder = trained("lstm").parents[1]
    options = ("model=lstm", *ADAM)
    found = continue_run(tiny_config(text_folder, tmp_path / "new", *options, f"ckpt={folder}")).path
    assert found == folder / "checkpoints" / "last.ckpt"
    with pytest.raises(UserError, match="give ckpt=last"):
        continue_run(tiny_config(text_folder, tmp_path / "new", *options, "ckpt=best"))


def test_several_checkpoints_are_a_list_or_as_typed(tmp_path):
    files = [tmp_path / name / "checkpoints" / "best.ckpt" for name in ("a", "b [1]")]
    for file in files:
        file.parent.mkdir(parents=True)
        file.touch()
    runs = [tmp_path / "a", tmp_path / "b [1]"]
    assert announced_checkpoints(f"[{runs[0]}, {runs[1]}]") == announced_checkpoints(runs) == files
    assert announced_checkpoints(str(runs[1])) == announced_checkpoints(runs[1]) == files[1:]
    assert announced_checkpoints(f"[{','.join(500 * [str(runs[0])])}]") == 500 * files[:1]  # too long for a path
    with pytest.raises(UserError, match=r"there must be a checkpoint in each place: ckpt=\[A,B\]"):
        announced_checkpoints(f"[{runs[0]},]")


def test_checkpoints_are_named_by_their_runs_and_numbered_where_these_are_equal():
    assert run_names([Path("/x/a/checkpoints/best.ckpt"), Path("/x/b/checkpoints/last.ckpt")]) == ["a", "b"]
    assert run_names([Path("/x/a/checkpoints/best.ckpt"), Path("/x/own.ckpt"), Path("/y/a")]) == ["a-1", "own-2", "a-3"]
    assert run_names([Path("/x/a"), Path("/y/a"), Path("/y/a-2")]) == ["a-1", "a-2", "a-2-3"]
