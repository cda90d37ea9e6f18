"""A wheel, built and unpacked in another folder, has everything that the console commands need."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROCESS_TIMEOUT, ROOT, small

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a wheel of this checkout was installed into."""
    source, folder = (tmp_path_factory.mktemp(name) for name in ("source", "installed"))
    for name in ("lm", "conf", "scripts"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", source, source], check=True)
    [wheel] = source.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", folder, wheel], check=True)
    return folder


def command(installed: Path, name: str, *arguments: str, cwd: Path) -> str:
    environment = os.environ | {"PYTHONPATH": str(installed)}
    done = subprocess.run(
        [installed / "bin" / name, *arguments],
        capture_output=True,
        text=True,
        timeout=PROCESS_TIMEOUT,
        cwd=cwd,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_wheel_has_every_module_and_config(installed):
    for folder, pattern in (("lm", "*.*"), ("scripts", "*.py"), ("conf", "*.yaml")):
        target = installed / "lm" / ("" if folder == "lm" else folder)
        files = [path.relative_to(ROOT / folder) for path in (ROOT / folder).rglob(pattern)]
        assert files and [path for path in files if not (target / path).exists()] == []


def test_every_script_is_a_console_command(installed):
    names = {path.stem for path in (ROOT / "scripts").glob("*.py")} - {"__init__"}
    assert {path.name for path in (installed / "bin").iterdir()} == {f"lm-{name}" for name in names}


@pytest.mark.parametrize("name", ["train", "report"])
def test_console_command_prints_help(installed, name, tmp_path):
    help_text = command(installed, f"lm-{name}", "--help", cwd=tmp_path)
    assert f"  lm-{name} " in help_text
    assert "Keys (KEY=VALUE):" in help_text


def test_wheel_trains_in_two_processes_and_generates(installed, text_folder, tmp_path):
    options = small(text_folder, "trainer.max_epochs=1", "trainer.devices=2", "hydra.run.dir=runs/train/first")
    assert "test" in command(installed, "lm-train", *options, cwd=tmp_path)
    assert (tmp_path / "runs" / "train" / "first" / "checkpoints" / "best.ckpt").exists()
    assert command(installed, "lm-generate", "ckpt=best", "prompt=w1 w2", cwd=tmp_path).startswith("w1 w2 ")
