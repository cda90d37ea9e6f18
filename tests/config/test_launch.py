"""Started by hand, by torchrun or by SLURM: one folder for all processes, and the same command goes on."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from hydra.core.hydra_config import HydraConfig

from lm.config import launch
from lm.errors import UserError
from lm.training import distributed
from lm.training.callbacks.lost_rank import LostRank, Rank
from lm.training.resume.choose import continue_run
from scripts.train import train
from tests.conftest import ADAM, PROCESS_TIMEOUT, small, tiny_config, wait_for

SCRIPT = Path(__file__).parents[2] / "scripts" / "train.py"
LAUNCHERS = ("SLURM", "TORCHELASTIC", "WORLD_SIZE", "RANK", "LOCAL_RANK")


@pytest.fixture(autouse=True)
def by_hand(monkeypatch):
    for name in os.environ:
        if name.startswith(LAUNCHERS):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({}, r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d"),
        ({"TORCHELASTIC_RUN_ID": "none"}, r"\d{4}-.*"),
        ({"TORCHELASTIC_RUN_ID": "big"}, "torchrun_big"),
        ({"SLURM_JOB_ID": "7"}, r"\d{4}-.*"),  # several runs may follow each other in one job
        ({"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0"}, "slurm_7_0"),
        ({"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_JOB_NAME": "bash"}, r"\d{4}-.*"),
    ],
)
def test_a_run_is_named_by_its_launcher_or_by_the_time(monkeypatch, environment, name):
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    assert re.fullmatch(name, launch.run_name())


def test_processes_of_torchrun_that_share_no_name_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    typed = []
    monkeypatch.setattr(HydraConfig, "get", lambda: type("", (), {"overrides": type("", (), {"hydra": typed})}))
    with pytest.raises(UserError, match="give torchrun an --rdzv-id=NAME"):
        launch.check_shared_name()
    typed.append("hydra.run.dir=here")
    launch.check_shared_name()


def test_a_new_run_does_not_overwrite_an_old_one_but_the_same_command_started_again_goes_on(
    text_folder, tmp_path, monkeypatch
):
    options = ("model=lstm", *ADAM, "trainer.max_epochs=1", "test=false")
    before = [signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)]
    train(tiny_config(text_folder, tmp_path, *options))
    assert [signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)] == before
    with pytest.raises(UserError, match=r"holds checkpoints of another run: resume it by ckpt=.*last\.ckpt"):
        train(tiny_config(text_folder, tmp_path, *options))
    for counter in ("SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT"):
        with monkeypatch.context() as restarted:
            restarted.setenv(counter, "1")
            own = continue_run(tiny_config(text_folder, tmp_path, *options)).path
            assert own == tmp_path / "checkpoints" / "last.ckpt"
            assert continue_run(tiny_config(text_folder, tmp_path / "new", *options)) is None


@pytest.mark.parametrize("timeout", [0, -1])
def test_a_timeout_must_be_above_zero(timeout):
    with pytest.raises(UserError, match="timeout_minutes"):
        distributed.ddp(timeout)
    assert distributed.ddp(0.5)._timeout.total_seconds() == 30


def fake_scontrol(folder: Path, code: int = 0) -> str:
    """A PATH on which `scontrol` writes down what it is asked for."""
    script = folder / "scontrol"
    script.write_text(f"#!/bin/sh\necho $* >> {folder}/asked\necho no such job >&2\nexit {code}\n")
    script.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


@pytest.mark.parametrize(
    ("environment", "job"),
    [({}, "12"), ({"SLURM_ARRAY_JOB_ID": "10", "SLURM_ARRAY_TASK_ID": "2"}, "10_2")],
)
@pytest.mark.parametrize("code", [0, 1])
def test_requeueing_asks_scontrol_for_the_job_and_reports_a_refusal(
    monkeypatch, tmp_path, capsys, environment, job, code
):
    for key, value in ({"PATH": fake_scontrol(tmp_path, code), "SLURM_JOB_ID": "12"} | environment).items():
        monkeypatch.setenv(key, value)
    distributed.requeue()
    assert (tmp_path / "asked").read_text() == f"requeue {job}\n"
    assert ("no such job" in capsys.readouterr().err) == bool(code)


def test_a_lost_connection_names_those_that_cannot_be_seen_to_run():
    here = socket.gethostname()
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    alive, dead = Rank(1, here, psutil.Process().ppid()), Rank(2, here, ended.pid)
    remote = Rank(3, "another-host", 1)
    lost_rank = LostRank()
    lost_rank.others = [alive, dead, remote]
    trainer = type("", (), {"global_rank": 0, "world_size": 4})
    error = RuntimeError("[gloo/pair.cc:5] Connection closed by peer [127.0.0.1]:9. This is typical. GLHF!")
    lost_rank.on_exception(trainer, None, error)
    assert str(error.__cause__).startswith(
        f"Process 0 of 4 has lost process 2 (pid {ended.pid} on {here}) or process 3 (pid 1 on another-host) "
        "(Connection closed by peer [127.0.0.1]:9): see why it ended"
    )
    other = ValueError("gloo")
    lost_rank.on_exception(trainer, None, other)
    assert other.__cause__ is None


# --- real processes


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def options(text_folder: Path, *more: str) -> list[str]:
    return small(text_folder, "model=gru", "optimizer.lr=1", "trainer=ddp", "trainer.accelerator=cpu", *more)


def nodes(folder: Path, arguments: list[str]) -> list[subprocess.Popen]:
    """Two torchrun nodes on this machine, one process each."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--rdzv-id=pair"]
    torchrun += ["--master-addr=127.0.0.1", f"--master-port={free_port()}"]
    command = [str(SCRIPT), *arguments, "trainer.devices=1", "trainer.num_nodes=2"]
    return [
        subprocess.Popen(
            [*torchrun, f"--node-rank={rank}", *command],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"GLOO_SOCKET_IFNAME": "lo"},
        )
        for rank in range(2)
    ]


def worker(agent: subprocess.Popen) -> psutil.Process:
    return next(p for p in psutil.Process(agent.pid).children(recursive=True) if str(SCRIPT) in p.cmdline())


@pytest.mark.slow
@pytest.mark.parametrize("loss", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "silent"])
def test_losing_a_node_ends_the_other_with_its_name_and_the_job_goes_on(text_folder, tmp_path, loss):
    endless = options(text_folder, "trainer.max_epochs=100000", "trainer.strategy.timeout_minutes=0.1")
    first, second = nodes(tmp_path, endless)
    wait_for(first, "epoch   2 | validation")
    lost = worker(second)
    lost.send_signal(loss)
    if loss == signal.SIGKILL:
        second.kill()
    started = time.monotonic()
    output, _ = first.communicate(timeout=PROCESS_TIMEOUT)
    assert time.monotonic() - started < 20
    assert first.returncode != 0
    assert re.search(rf"Process 0 of 2 has lost process 1 \(pid {lost.pid} on .*\) \(.*\): see why it ended", output)
    if loss == signal.SIGSTOP:
        lost.kill()
        second.kill()
    second.communicate()
    [run] = (tmp_path / "runs" / "train").iterdir()
    assert run.name == "torchrun_pair"
    if loss == signal.SIGSTOP:
        return  # going on is the same
    stored = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    for node in nodes(tmp_path, options(text_folder, f"trainer.max_epochs={stored['epoch'] + 2}", "ckpt=last")):
        output, _ = node.communicate(timeout=PROCESS_TIMEOUT)
        assert node.returncode == 0, output
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] > stored["global_step"]
    assert json.loads((run / "metrics.json").read_text())["val/tokens"] > 0


@pytest.mark.slow
def test_processes_that_torchrun_starts_again_go_on(text_folder, tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1"]
    arguments = options(text_folder, "trainer.devices=2", "trainer.max_epochs=6")
    agent = subprocess.Popen(
        [*torchrun, str(SCRIPT), *arguments],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # without it torch 2.13 may hand the new processes the addresses of the old ones
        env=os.environ | {"GLOO_SOCKET_IFNAME": "lo", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"},
    )
    wait_for(agent, "epoch   3 | validation")
    worker(agent).kill()
    output, _ = agent.communicate(timeout=PROCESS_TIMEOUT)
    assert agent.returncode == 0, output
    validated = [int(epoch) for epoch in re.findall(r"epoch +(\d+) \| validation", output)]
    assert validated[0] in (3, 4)  # not from the beginning
    assert validated[-1] == 6
    [run] = (tmp_path / "runs" / "train").iterdir()
    assert (run / "metrics.json").exists()


@pytest.mark.slow
def test_a_slurm_job_is_queued_again_before_its_time_is_up_and_goes_on(text_folder, tmp_path):
    step = {"SLURM_JOB_ID": "77", "SLURM_STEP_ID": "0", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "2"}
    step |= {"SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "1", "SLURM_NODEID": "0", "SLURM_NODELIST": "127.0.0.1"}
    step |= {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo", "PATH": fake_scontrol(tmp_path)}

    def srun(epochs: int, **more: str) -> list[subprocess.Popen]:
        arguments = options(text_folder, "trainer.devices=2", f"trainer.max_epochs={epochs}")
        environment = os.environ | step | {"MASTER_PORT": str(free_port())} | more
        return [
            subprocess.Popen(
                [sys.executable, str(SCRIPT), *arguments],
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=environment | {"SLURM_PROCID": str(task), "SLURM_LOCALID": str(task)},
            )
            for task in range(2)
        ]

    tasks = srun(100_000)
    wait_for(tasks[0], "epoch   2 | validation")
    for task in tasks:
        task.send_signal(signal.SIGUSR1)
        task.send_signal(signal.SIGTERM)  # some clusters send both
    output, _ = tasks[0].communicate(timeout=PROCESS_TIMEOUT)
    tasks[1].communicate(timeout=PROCESS_TIMEOUT)
    # a second signal may find a process that is ending already, which a shell calls 143, too
    assert {task.returncode for task in tasks} <= {143, -signal.SIGTERM}, output
    assert (tmp_path / "asked").read_text() == "requeue 77\n"
    run = tmp_path / "runs" / "train" / "slurm_77_0"
    stored = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    tasks = srun(stored["epoch"] + 2, SLURM_RESTART_COUNT="1")
    output, _ = tasks[0].communicate(timeout=PROCESS_TIMEOUT)
    tasks[1].communicate(timeout=PROCESS_TIMEOUT)
    assert [task.returncode for task in tasks] == [0, 0], output
    assert "epoch   1 |" not in output
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] > stored["global_step"]
