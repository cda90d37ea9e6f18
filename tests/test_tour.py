"""The notebook docs/tour.ipynb."""

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import PROCESS_TIMEOUT, ROOT

TOUR = ROOT / "docs" / "tour.ipynb"


def test_the_stored_outputs_have_no_errors_and_no_paths_of_the_machine_they_were_made_on():
    notebook = nbformat.read(TOUR, 4)
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert len(outputs) >= 8
    assert {output.output_type for output in outputs} <= {"stream", "display_data", "execute_result"}
    assert not any(path in str(outputs) for path in ("/root", "/home", "/tmp"))


@pytest.mark.slow
def test_every_cell_runs(tmp_path):
    notebook = nbformat.read(TOUR, 4)
    [training] = [cell for cell in notebook.cells if "lm.train(" in cell.source and cell.cell_type == "code"]
    assert 'lm.train("experiment=quickstart")' in training.source
    steps = "trainer.max_steps=20"  # a model that has learned little runs through the same cells
    training.source = training.source.replace('"experiment=quickstart"', f'"experiment=quickstart", "{steps}"')
    NotebookClient(notebook, timeout=PROCESS_TIMEOUT, resources={"metadata": {"path": tmp_path}}).execute()
    pages = [
        output for cell in notebook.cells for output in cell.get("outputs", []) if "text/html" in output.get("data", {})
    ]
    assert any("surprisal" in page["data"]["text/html"] for page in pages)
