"""No two runs, and no two sweeps, write into one folder."""

import csv
import fcntl
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from lm.errors import UserError
from lm.training import run_folder
from lm.training.run_folder import LOCK, RunFolder, create, hold, locked
from tests.config.test_signals import start
from tests.conftest import run, small, wait_for

HOLD = "import sys, time; from pathlib import Path; from lm.training.run_folder import hold; hold(Path(sys.argv[1])); "


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "TORCHELASTIC_RUN_ID", "SLURM_STEP_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def holder(tmp_path):
    """Another process that holds tmp_path."""
    command = [sys.executable, "-c", HOLD + "print('held', flush=True); time.sleep(60)", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        wait_for(process, "held")
        yield process
        process.kill()


def hydra_config(folder: Path, pattern: str) -> OmegaConf:
    node = {"dir": f"{folder}/{pattern}"}
    return OmegaConf.create({"hydra": {"run": node, "sweep": node}})


@pytest.mark.parametrize("hook", ["on_run_start", "on_multirun_start"])
def test_two_runs_or_sweeps_of_the_same_second_get_two_folders(tmp_path, hook, monkeypatch):
    names = []
    OmegaConf.register_new_resolver("now", lambda _: "12-00", replace=True)
    for _ in range(3):
        config = hydra_config(tmp_path, "${now:%H-%M}")
        getattr(RunFolder(), hook)(config)
        names.append(Path(config.hydra.run.dir if hook == "on_run_start" else config.hydra.sweep.dir).name)
    assert names == ["12-00", "12-00_2", "12-00_3"]


def test_the_processes_and_restarts_of_one_launcher_share_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "pair")
    (tmp_path / "torchrun_pair").mkdir()
    config = hydra_config(tmp_path, "${run_name:}")
    RunFolder().on_run_start(config)
    assert config.hydra.run.dir == f"{tmp_path}/torchrun_pair"
    monkeypatch.setenv("RANK", "1")
    RunFolder().on_run_start(hydra_config(tmp_path, "${run_name:}"))


def test_a_folder_that_another_process_holds_is_refused_even_while_that_is_stopped(tmp_path, holder, capsys):
    with pytest.raises(SystemExit) as refused:
        RunFolder().on_run_start(hydra_config(tmp_path.parent, tmp_path.name))
    assert f"used by process {holder.pid} on {socket.gethostname()}: wait until" in str(refused.value)
    holder.send_signal(signal.SIGSTOP)
    with pytest.raises(UserError, match=f"used by process {holder.pid}"), locked(tmp_path):
        pass
    holder.kill()
    holder.wait()
    with locked(tmp_path):
        assert (tmp_path / LOCK).read_text().split() == [str(os.getpid()), socket.gethostname()]
    assert (tmp_path / LOCK).read_text() == ""


@pytest.mark.parametrize(("pid", "host", "free"), [("DEAD", "HERE", True), ("1", "HERE", False), ("1", "far", False)])
def test_without_locks_of_the_file_system_a_lock_is_stale_when_its_process_is_gone(
    tmp_path, monkeypatch, pid, host, free
):
    def unsupported(*_):
        raise OSError("no locks")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    names = {"DEAD": str(ended.pid), "HERE": socket.gethostname()}
    (tmp_path / LOCK).write_text(f"{names.get(pid, pid)} {names.get(host, host)}\n")
    if free:
        hold(tmp_path)
    else:
        with pytest.raises(UserError, match="used by process 1 on"):
            hold(tmp_path)


def test_a_sweeps_folder_that_holds_an_earlier_sweep_is_refused(tmp_path):
    (tmp_path / "0" / ".hydra").mkdir(parents=True)
    with pytest.raises(SystemExit, match="holds the jobs of an earlier sweep"):
        RunFolder().on_multirun_start(hydra_config(tmp_path.parent, tmp_path.name))


def test_the_unused_folder_of_a_resumed_run_is_removed_and_others_stay(tmp_path):
    unused, used = create(tmp_path / "a"), create(tmp_path / "b")
    (used / "metrics.json").touch()
    for folder in (unused, used):
        (folder / ".hydra").mkdir()
        run_folder.remove_unused(folder)
    assert not unused.exists()
    assert used.exists()


# --- real processes


@pytest.mark.slow
def test_a_refused_run_leaves_no_folder_but_one_that_was_given(text_folder, tmp_path):
    (tmp_path / "given").mkdir()
    for mistake in (["ckpt=nowhere"], ["data.root=nowhere", "hydra.run.dir=given"]):
        assert run("train", *small(text_folder, *mistake), cwd=tmp_path).returncode == 1
    assert (tmp_path / "given").is_dir()
    assert [*(tmp_path / "runs").rglob("*.yaml")] == []


@pytest.mark.slow
def test_a_run_that_still_trains_can_neither_be_resumed_nor_overwritten(text_folder, tmp_path):
    arguments = (*small(text_folder), "trainer.max_epochs=100000")  # more than are done while this test runs
    with start("train", *arguments, cwd=tmp_path) as process:
        wait_for(process, "validation after")
        [folder] = (tmp_path / "runs" / "train").iterdir()
        before = (folder / ".hydra" / "overrides.yaml").read_text()
        for given in ("ckpt=last", f"ckpt={folder}/checkpoints/last.ckpt", f"hydra.run.dir={folder}"):
            done = run("train", *arguments, given, cwd=tmp_path)
            assert done.returncode == 1
            assert f"used by process {process.pid} on" in done.stderr
            assert len(done.stderr.splitlines()) == 1
        assert (folder / ".hydra" / "overrides.yaml").read_text() == before
        process.kill()
        process.communicate()
    epoch = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["epoch"]
    done = run("train", *arguments, "ckpt=last", f"trainer.max_epochs={epoch + 2}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [*(tmp_path / "runs" / "train").iterdir()] == [folder]


@pytest.mark.slow
def test_jobs_in_folders_within_folders_are_all_in_the_table_and_relative_paths_stay(text_folder, tmp_path):
    (tmp_path / "text").symlink_to(text_folder)
    arguments = small(text_folder, "trainer.max_epochs=1", "test=false", "optimizer.lr=1,2", "data.root=text")
    arguments += ["hydra.sweep.subdir='a/${optimizer.lr}/b'", "hydra.sweep.dir=sweep", "hydra.job.chdir=true"]
    done = run("train", "-m", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((tmp_path / "sweep" / "sweep.csv").open()))
    assert {row["job"]: row["status"] for row in rows} == {"a/1/b": "done", "a/2/b": "done"}
    again = run("train", "-m", *arguments, cwd=tmp_path)
    assert again.returncode == 1
    assert "sweep holds the jobs of an earlier sweep" in again.stderr


@pytest.mark.slow
def test_a_shell_of_a_slurm_job_trains_and_evaluates_without_srun(text_folder, trained, tmp_path):
    job = os.environ | {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_NNODES": "1"}
    done = run("train", *small(text_folder, "train_minutes=0.01", "test=false"), cwd=tmp_path, env=job)
    assert done.returncode == 0, done.stderr
    done = run("evaluate", f"ckpt={trained('lstm')}", f"data.root={text_folder}", f"out={tmp_path}/x", env=job)
    assert done.returncode == 0, done.stderr
