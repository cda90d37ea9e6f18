"""A script's `main`, as a console entry point calls it."""

import subprocess
import sys

import pytest

from tests.conftest import CONF, ROOT


@pytest.mark.parametrize("script", [path.stem for path in CONF.glob("*.yaml")])
def test_main_works_when_it_is_imported(script, tmp_path):
    entry_point = tmp_path / f"lm-{script}"
    code = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom scripts.{script} import main\nmain()\n"
    entry_point.write_text(code)
    done = subprocess.run([sys.executable, entry_point, "sed=1"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("sed is unknown: ") or done.stderr.startswith("sed=1 given, but sed is unknown: ")


def test_importing_a_script_imports_nothing_slow():
    code = "import sys, scripts.train, scripts.score; print(*{'hydra', 'torch', 'lightning'} & sys.modules.keys())"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True) == "\n"
