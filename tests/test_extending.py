"""docs/extending.md: its files, written into a copy of the project, train there."""

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROCESS_TIMEOUT, ROOT, small

PAGE = (ROOT / "docs" / "extending.md").read_text()
OWN = """
def penalty(outputs, model, scale):
    return scale * outputs.hidden.square().mean()
"""


def blocks() -> dict[str, str]:
    """The blocks of the page that follow the name of a file, by that name."""
    found = re.findall(r"`((?:lm|conf)/[\w/]+\.(?:py|yaml))`[^`\n]*:\n\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    return dict(found)


def extended(folder: Path) -> Path:
    """A copy of the project with everything that the page adds."""
    for name in ("conf", "lm", "scripts"):
        shutil.copytree(ROOT / name, folder / name)
    for name, block in blocks().items():
        file = folder / name
        if block.startswith("+"):  # the lines that are added to a file
            file.write_text(file.read_text() + "\n" + re.sub("^\\+", "", block, flags=re.MULTILINE))
        else:
            file.write_text(block)
    for package, module, part in (
        ("lm/models", "mingru", "MinGRUCore"),
        ("lm/models", "confidence_penalty", "ConfidencePenaltyHead"),
        ("lm/training/callbacks", "weight_norm", "WeightNorm"),
    ):
        line = f"\nfrom {package.replace('/', '.')}.{module} import {part}\n__all__ += ['{part}']\n"
        file = folder / package / "__init__.py"
        file.write_text(file.read_text() + line)
    [(old, new)] = re.findall(r"^-( .*)\n\+( .*)$", PAGE, re.MULTILINE)
    ranges = folder / "lm" / "config" / "ranges.py"
    assert old in ranges.read_text()
    text = ranges.read_text().replace(old, new)
    ranges.write_text(text.replace("regularizer.ar.alpha", "regularizer.ar.alpha regularizer.l1.weight"))
    (folder / "mine.py").write_text(OWN)
    return folder


def test_the_page_names_the_files_that_it_adds():
    assert {"lm/models/mingru.py", "conf/model/mingru.yaml", "conf/callbacks/default.yaml"} < {*blocks()}
    assert len(blocks()) == 13


@pytest.mark.slow
def test_everything_that_the_page_adds_trains_together(text_folder, tmp_path):
    folder = extended(tmp_path / "project")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "all.txt").write_text((text_folder / "train.txt").read_text())
    [mine] = re.findall(r"'(\+regularizer\.mine=.*?)'", PAGE)
    options = [each for each in small(text_folder) if not each.startswith("data=")]
    options += ["data=single_file", f"data.root={tmp_path}/text", "model=mingru", "model/head=confidence_penalty"]
    options += ["regularizer=[ar_tar,l1]", mine, "scheduler=inverse_square_root", "optimizer=adamw"]
    done = subprocess.run(
        [sys.executable, "scripts/train.py", *options, "trainer.max_epochs=1", "hydra.run.dir=run"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": "."},
        capture_output=True,
        text=True,
        timeout=PROCESS_TIMEOUT,
    )
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((folder / "run" / "csv" / "metrics.csv").open()))
    for name in ("weights/norm", "train/penalty"):
        assert any(float(row[name] or 0) > 0 for row in rows), name
