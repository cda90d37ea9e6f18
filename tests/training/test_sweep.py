"""The sweep's table: a row per job in the CSV, a row per group of seeds on screen, and a failed job's own row."""

import csv
import json
import statistics
from pathlib import Path

import pytest

from lm.config.cli import ERROR_FILE
from lm.training.runs import METRICS_FILE
from lm.training.sweep import COLUMNS, GROUP_COLUMNS, report

PERPLEXITIES = {("lstm", 1): 81.25, ("lstm", 2): 79.5, ("lstm", 3): 80.1234567, ("gru", 1): 70.5, ("gru", 2): None}


def job(folder: Path, name: str, overrides: list[str], seed: int | str) -> Path:
    hydra = folder / name / ".hydra"
    hydra.mkdir(parents=True)
    (hydra / "overrides.yaml").write_text(json.dumps(overrides))
    config = {"seed": seed, "model": {"name": overrides[-2:-1]}, "data": {"seed": "${seed}"}}
    (hydra / "config.yaml").write_text(json.dumps(config))
    return folder / name


@pytest.fixture
def sweep(tmp_path):
    for i, ((model, seed), ppl) in enumerate(PERPLEXITIES.items()):
        folder = job(tmp_path, str(i), ["data=text", f"model={model}", f"seed={seed}"], seed)
        if ppl is None:
            (folder / ERROR_FILE).write_text("The loss is nan at step 7.")
        else:
            costs = {"parameters": 14_044_278, "tokens_per_second": 1000.5 + seed, "minutes": 1.25}
            metrics = {"val/loss": 4.5, "val/ppl": ppl, "test/ppl": ppl + 1} | costs
            (folder / METRICS_FILE).write_text(json.dumps(metrics))
    return tmp_path


def test_the_csv_keeps_a_row_per_job_with_all_digits(sweep):
    report(sweep)
    rows = list(csv.DictReader((sweep / "sweep.csv").open()))
    assert tuple(rows[0]) == COLUMNS
    assert [row["job"] for row in rows] == ["3", "1", "2", "0", "4"]
    assert [row["seed"] for row in rows] == ["1", "2", "3", "1", "2"]
    assert rows[2] == {
        "job": "2",
        "overrides": "data=text model=lstm seed=3",
        "seed": "3",
        "val/loss": "4.5",
        "val/ppl": "80.1234567",
        "test/ppl": "81.1234567",
        "parameters": "14044278",
        "train/tokens": "",
        "minutes": "1.25",
        "tokens_per_second": "1003.5",
        "epochs": "",
        "steps": "",
        "status": "done",
    }
    assert rows[-1]["status"] == "failed: The loss is nan at step 7."


def test_the_csv_of_groups_has_means_and_sample_standard_deviations(sweep):
    report(sweep)
    gru, lstm = csv.DictReader((sweep / "sweep_groups.csv").open())
    assert tuple(gru) == GROUP_COLUMNS
    assert (lstm["jobs"], lstm["seeds"], lstm["n"]) == ("1 2 0", "2 3 1", "3")
    assert lstm["overrides"] == "data=text model=lstm"
    values = [ppl for (model, _), ppl in PERPLEXITIES.items() if model == "lstm"]
    assert float(lstm["val/ppl/mean"]) == pytest.approx(statistics.fmean(values))
    assert float(lstm["val/ppl/std"]) == pytest.approx(statistics.stdev(values))
    assert float(lstm["test/ppl/mean"]) == pytest.approx(statistics.fmean(values) + 1)
    assert (lstm["parameters"], float(lstm["tokens_per_second"])) == ("14044278", 1002.5)
    assert (gru["n"], gru["val/ppl/mean"], gru["val/ppl/std"]) == ("1", "70.5", "")


def test_the_screen_shows_groups_and_a_failed_jobs_own_row_with_its_reason(sweep, capsys):
    report(sweep)
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    gru, lstm, failed = [line for line in lines if line and line[0]]
    assert gru == ["3", "model=gru seed=1", "70.50", "71.50", "14,044,278", "1,002", "1.2", "done"]
    assert lstm[:4] == ["1 2 0", "model=lstm", "80.29 ± 0.89 (3)", "81.29 ± 0.89 (3)"]
    assert lstm[4:] == ["14,044,278", "1,002", "1.2", "done"]
    assert failed[:2] == ["4", "model=gru seed=2"]
    assert failed[-1].startswith("failed: The loss is nan")


def test_jobs_without_scores_or_a_seed_that_is_a_number_have_empty_cells(tmp_path, capsys):
    (job(tmp_path, "0", ["seed=1"], "${nothing}") / METRICS_FILE).write_text('{"parameters": 7}')
    (job(tmp_path, "1", ["seed=2"], 2) / METRICS_FILE).write_text('{"parameters": 7}')
    report(tmp_path)
    rows = list(csv.DictReader((tmp_path / "sweep.csv").open()))
    assert [(row["seed"], row["val/ppl"], row["status"]) for row in rows] == [("", "", "done"), ("2", "", "done")]
    [group] = csv.DictReader((tmp_path / "sweep_groups.csv").open())
    assert (group["n"], group["val/ppl/mean"], group["parameters"]) == ("2", "", "7")
    assert "0 1" in capsys.readouterr().out
