"""A model trained on text that the project tokenises: prompts and scored texts go the same way."""

import json

import pytest

from lm import LanguageModel
from lm.checkpoints.pretrained import export_folder
from scripts.evaluate import evaluate
from scripts.generate import generate
from scripts.score import score
from scripts.train import train
from tests.conftest import composed, tiny_config

pytest.importorskip("sacremoses")
PLAIN = "Well-known (since 1,000), or not."
WORDS = ["Well", "@-@", "known", "(", "since", "1", "@,@", "000", ")", ",", "or", "not", "."]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """Of a model trained on nothing but PLAIN."""
    text, run = tmp_path_factory.mktemp("plain"), tmp_path_factory.mktemp("run")
    for split, lines in {"train": 60, "valid": 5, "test": 5}.items():
        (text / f"{split}.txt").write_text(f"{PLAIN}\n" * lines)
    train(tiny_config(text, run, "data.tokenize=true", "trainer.max_epochs=1"))
    return run


def test_the_checkpoint_remembers_that_its_text_was_tokenised(run_folder):
    model = LanguageModel.load(run_folder)
    assert model.unknown(PLAIN) == []
    assert model.score(PLAIN, eos=False).words == WORDS
    assert LanguageModel.load(run_folder, tokenize=False).unknown(PLAIN) == ["Well-known", "(since", "1,000),", "not."]


def test_an_exported_folder_remembers_it_too(run_folder, tmp_path):
    model = LanguageModel.load(run_folder)
    export_folder(model.model, model.vocabulary, model.config, tmp_path / "exported")
    assert LanguageModel.load(tmp_path / "exported").score(PLAIN, eos=False).words == WORDS


def test_the_scripts_tokenise_prompts_and_scored_texts(run_folder, capsys):
    [text] = generate(composed("generate", f"ckpt={run_folder}", f"prompt='{PLAIN}'", "max_words=1"))
    assert text.startswith(" ".join(WORDS))
    [scored] = score(composed("score", f"ckpt={run_folder}", f"text='{PLAIN}'"))
    assert scored.words[:-1] == WORDS
    assert "<unk>" not in capsys.readouterr().err
    [scored] = score(composed("score", f"ckpt={run_folder}", f"text='{PLAIN}'", "tokenize=false"))
    assert len(scored.words) == len(PLAIN.split()) + 1


def test_bits_per_character_are_of_the_text_as_it_was_given(run_folder):
    [scored] = LanguageModel.load(run_folder).score_lines(["well-known (1,000)"])
    assert scored.characters == len("well-known (1,000)\n")


def test_an_evaluation_tokenises_another_text_as_the_training_did(run_folder, tmp_path):
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_text(f"{PLAIN}\n" * 3)
    out = tmp_path / "results.json"
    evaluate(composed("evaluate", f"ckpt={run_folder}", "data=text", f"data.root={tmp_path}", f"out={out}"))
    assert json.loads(out.read_text())["results"][0]["tokens"] == 3 * (len(WORDS) + 1)
