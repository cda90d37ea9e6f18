"""The model card: a header that the Hub reads, and no more than is known."""

import json
import shlex

import pytest
import yaml
from huggingface_hub import ModelCard

from lm import LanguageModel
from lm.checkpoints.checkpoint import load
from lm.export.model_card import model_card
from scripts.export import export
from tests.conftest import composed, make_run

METRICS = {
    "val/ppl": 81.25,
    "val/tokens": 217646.0,
    "test/ppl": 1079.5,
    "test/tokens": 245569.0,
    "train/tokens": 41_000,
}


@pytest.fixture
def model(trained):
    loaded = LanguageModel.load(trained("lstm"))
    loaded.config["data"] |= {"name": "wikitext2", "eval_trim": False}
    return loaded


def test_the_hub_reads_its_header(model):
    data = ModelCard(model_card(model, "bfloat16", "mit")).data.to_dict()
    assert data == {
        "license": "mit",
        "language": "en",
        "library_name": "lm",
        "tags": ["language-model", "word-level", "lstm"],
        "pipeline_tag": "text-generation",
        "metrics": ["perplexity"],
    }


def test_it_says_what_is_known_of_a_run(model):
    card = model_card(model, "float16", "unknown", ["model=lstm", "optimizer.lr=3"], METRICS)
    assert "embedding" in card and "stored as float16" in card
    assert "Measured before the weights were rounded to float16." in card
    assert "Training has read 41,000 tokens." in card
    assert "CC BY-SA 3.0" in card
    assert "python scripts/train.py \\\n    model=lstm \\\n    optimizer.lr=3\n" in card
    assert "| validation | 81.25 | 217,646 | every token scored once |" in card
    assert "| test | 1,079.50 | 245,569 | every token scored once |" in card


def test_a_fine_tuned_model_names_its_beginning_and_a_tokenised_one_its_words(model):
    assert "another trained model" not in model_card(model, "float32", "unknown")
    model.config["init_from"] = "/home/me/best.ckpt"
    model.tokenize = True
    card = model_card(model, "float32", "unknown")
    assert "It began with the weights of another trained model" in card
    assert "Moses tokenizer" in card and "separated by white space" not in card


def test_what_is_not_known_is_not_said(model):
    model.config["data"] |= {"name": "text"}
    card = model_card(model, "float32", "unknown")
    assert "## Perplexity" not in card
    assert "scripts/train.py" not in card
    assert "Wikitext" not in card
    assert "language:" not in card


@pytest.mark.parametrize(
    "override",
    [
        "data.root=/home/me",
        "`rm`.root=a",
        "+x=~/text",
        "logger.mlflow.tracking_uri=https://me:secret@host",
        "ckpt=last",
        "+callbacks.notify.token=secret",
        "+callbacks.notify={token: secret}",
        "+x={y: /home/me}",
        "+x=[a,~/text]",
        "data.cache_dir=cache",
        "a=`rm`",
    ],
)
def test_paths_of_the_authors_machine_are_left_out(model, override):
    assert override not in model_card(model, "float32", "unknown", ["seed=2", override])


def test_paths_that_training_needs_are_placeholders(model):
    overrides = ["data=text", "data.root='/home/me/a b'", "init_from=best", "a.pretrained=null", "ckpt=last"]
    overrides += ["`rm`.root=a", "logger.mlflow.root=a"]
    card = model_card(model, "float32", "unknown", overrides)
    command = card.split("```bash\n")[1].split("\n```")[0].replace(" \\\n   ", "")
    assert command == "python scripts/train.py data=text data.root=DIR init_from=CKPT"


def test_its_command_can_be_pasted_into_a_shell(model):
    override = "model.embedding.embedding_size=${model.core.hidden_size}"
    assert shlex.quote(override) in model_card(model, "float32", "unknown", [override])


def test_it_names_the_sizes(model):
    assert "`embedding_size=16`, `hidden_size=16`, `num_layers=2`." in model_card(model, "float32", "unknown")


@pytest.mark.parametrize(("name", "later"), [("best", 0), ("last", 0), ("best", 10)])
def test_the_results_of_a_run_are_those_of_its_best_checkpoint_only(trained, tmp_path, name, later):
    """Not those of an earlier one, which a run has that was resumed and then killed."""
    run = make_run(tmp_path / "run", overrides=("optimizer.lr=3",))
    step = load(trained("lstm")).step
    (run / "metrics.json").write_text(json.dumps(METRICS | {"val/step": step - later}))
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / f"{name}.ckpt").write_bytes(trained("lstm").read_bytes())
    out = export(composed("export", f"ckpt={run}/checkpoints/{name}.ckpt", "format=folder", f"out={tmp_path}/{name}"))
    card = (out / "README.md").read_text()
    assert "optimizer.lr=3" in card
    assert ("81.25" in card) == (name == "best" and not later)
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "unknown"
