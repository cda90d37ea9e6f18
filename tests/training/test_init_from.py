"""Fine-tuning: a run that begins with a trained model."""

import json
import math

import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import instantiate

from lm import LanguageModel
from lm.data import EOS, UNK, Vocabulary
from lm.errors import UserError
from lm.models import CausalLM
from lm.training import init_from
from lm.training.init_from import load_weights
from scripts.train import train
from tests.conftest import composed, mistake, run, small, small_model_config, tiny_config

OURS = Vocabulary([EOS, UNK, "w1", "w2", "w3"])


def small_model(name: str, vocabulary: Vocabulary, *overrides: str, **values: object) -> CausalLM:
    return instantiate(small_model_config(name, *overrides, **values), vocabulary_size=len(vocabulary)).eval()


def trained_model(name: str, *overrides: str, **values: object) -> LanguageModel:
    torch.manual_seed(1)
    model = small_model(name, OURS, *overrides, **values)
    torch.nn.init.normal_(model.head.decoder.bias)
    return LanguageModel(model, OURS)


@pytest.mark.parametrize("tie_weights", [True, False])
def test_new_words_share_the_probability_of_unk_and_the_others_keep_theirs(tie_weights):
    trained = trained_model("lstm", tie_weights=tie_weights)
    extended = Vocabulary([*OURS.words, "new", "newer"])
    model = small_model("lstm", extended, tie_weights=tie_weights)
    load_weights(model, extended, trained)
    ours = LanguageModel(model, extended)
    before, after = trained.log_probs("w1 new w3"), ours.log_probs("w1 new w3")
    known = [i for i in range(len(OURS)) if i != OURS.unk_id]
    torch.testing.assert_close(after[:, known], before[:, known])
    shared = before[:, OURS.unk_id] - math.log(3)
    for word in (UNK, "new", "newer"):
        torch.testing.assert_close(after[:, extended.id_of(word)], shared)


def test_the_same_words_give_the_same_model():
    trained = trained_model("transformer")
    model = small_model("transformer", OURS)
    load_weights(model, OURS, trained)
    assert torch.equal(LanguageModel(model, OURS).log_probs("w1 w2"), trained.log_probs("w1 w2"))


def test_a_head_of_clusters_takes_no_new_words():
    overrides = ["model/head=adaptive", "model.head.cutoffs=[2]"]
    trained = LanguageModel(small_model("lstm", OURS, *overrides), OURS)
    extended = Vocabulary([*OURS.words, "new"])
    with pytest.raises(UserError, match="init_vocabulary=keep"):
        load_weights(small_model("lstm", extended, *overrides), extended, trained)


def test_a_model_with_tied_weights_does_not_begin_one_without():
    trained = trained_model("lstm", tie_weights=True)
    with pytest.raises(UserError, match="must be that of the trained model"):
        load_weights(small_model("lstm", OURS, tie_weights=False), OURS, trained)


# --- the config


def adopted(monkeypatch, text_folder, *overrides: str):
    """The config of a run with these overrides after `adopt_model`."""
    monkeypatch.setattr(init_from, "task_overrides", lambda: OverridesParser.create().parse_overrides(list(overrides)))
    config = composed("train", *small(text_folder), "run_dir=x", "optimizer=adamw", *overrides)
    init_from.adopt_model(config)
    return config


def test_the_learning_rate_is_that_of_the_trained_model_unless_one_is_given(trained, text_folder, monkeypatch, capsys):
    ckpt = trained("transformer")
    stored = LanguageModel.load(ckpt).config["optimizer"]
    config = adopted(monkeypatch, text_folder, f"init_from={ckpt}")
    assert config.optimizer.lr == stored["lr"] != composed("train", "optimizer=adamw", "run_dir=x").optimizer.lr
    assert f"optimizer.lr={stored['lr']}, as in the training of" in capsys.readouterr().out
    assert adopted(monkeypatch, text_folder, f"init_from={ckpt}", "optimizer.lr=3").optimizer.lr == 3
    with pytest.raises(
        UserError, match=r"was trained by AdamW, .* give optimizer\.lr for \w+, or optimizer=NAME for AdamW"
    ):
        adopted(monkeypatch, text_folder, f"init_from={ckpt}", "optimizer=rmsprop")


def test_a_transformers_context_is_that_of_the_new_windows(trained, text_folder, monkeypatch):
    config = adopted(monkeypatch, text_folder, f"init_from={trained('transformer')}", "data.bptt=9")
    assert config.model.core.context == 9


def test_a_resumed_run_has_its_own_model_and_does_not_need_the_trained_one(trained, text_folder, monkeypatch):
    config = adopted(monkeypatch, text_folder, "init_from=best", f"ckpt={trained('transformer')}")
    assert config.model.core._target_ == "lm.models.TransformerCore"


def test_word_vectors_are_for_new_words(trained, text_folder, monkeypatch):
    with pytest.raises(UserError, match="give init_vocabulary=extend, too"):
        adopted(monkeypatch, text_folder, f"init_from={trained('lstm')}", "model.embedding.pretrained=x")


def test_the_trained_model_is_known_by_its_path(trained, text_folder, monkeypatch):
    run = trained("lstm").parents[1]
    monkeypatch.chdir(run.parent)
    assert adopted(monkeypatch, text_folder, f"init_from={run.name}").init_from == str(trained("lstm"))


# --- by scripts/train.py


@pytest.fixture(scope="module")
def other_text(text_folder, tmp_path_factory):
    """A small text like the first, with a word of its own."""
    folder = tmp_path_factory.mktemp("other")
    for split in ("train", "valid", "test"):
        lines = (text_folder / f"{split}.txt").read_text().splitlines()[:12]
        (folder / f"{split}.txt").write_text("\n".join(f"{line} novel" for line in lines) + "\n")
    return folder


def fine_tuned(text, folder, *overrides: str) -> dict:
    train(tiny_config(text, folder, "trainer.max_epochs=1", "optimizer.lr=0.1", *overrides))
    return json.loads((folder / "metrics.json").read_text())


@pytest.mark.parametrize(("vocabulary", "words"), [("keep", 22), ("extend", 23)])
def test_a_fine_tuned_model_beats_one_from_scratch_on_a_small_text(trained, other_text, tmp_path, vocabulary, words):
    initial = [f"init_from={trained('lstm')}", f"init_vocabulary={vocabulary}"]
    tuned = fine_tuned(other_text, tmp_path / "tuned", *initial)
    scratch = fine_tuned(other_text, tmp_path / "scratch")
    assert tuned["test/ppl"] < 0.7 * scratch["test/ppl"]
    model = LanguageModel.load(tmp_path / "tuned")
    assert len(model.vocabulary) == words
    assert model.unknown("w1 novel") == ([] if vocabulary == "extend" else ["novel"])


@pytest.mark.slow
def test_the_command_line_changes_values_of_the_model_but_not_its_sizes(trained, other_text, tmp_path):
    common = [*small(other_text), f"init_from={trained('lstm')}", "init_vocabulary=extend", "trainer.max_steps=1"]
    vectors = "".join(f"{word} {' '.join(['0.5'] * 16)}\n" for word in ("novel", "w1"))
    (tmp_path / "vectors.txt").write_text(vectors)
    changed = ["model.core.dropout=0.5", "model.embedding.pretrained=vectors.txt", "optimizer.lr=1e-9"]
    done = run("train", *common, *changed, "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "begins with the weights of" in done.stdout
    assert "1 of 1 words begin with vectors of vectors.txt" in done.stdout
    before, after = LanguageModel.load(trained("lstm")), LanguageModel.load(tmp_path / "run")
    assert after.config["model"]["core"]["dropout"] == 0.5
    rows = [model.model.embedding.weight[model.vocabulary.id_of("w1")] for model in (before, after)]
    torch.testing.assert_close(*rows)  # a word that was known keeps its vector
    torch.testing.assert_close(after.model.embedding.weight[after.vocabulary.id_of("novel")], torch.full((16,), 0.5))
    for override, message in {
        "model.core.hidden_size=8": "The weights do not fit the model",
        "model=gru": "brings its own model",
    }.items():
        refused = run("train", *common, "optimizer.lr=1", override, cwd=tmp_path)
        assert (refused.returncode, refused.stderr.count("Traceback")) == (1, 0), refused.stderr
        assert message in refused.stderr


def test_mistakes_are_one_line(trained, text_folder):
    given = [*small(text_folder), "run_dir=x"]
    assert "No checkpoint at init_from=nowhere" in mistake(train, *given, "init_from=nowhere")
    assert "init_vocabulary=extend given without init_from" in mistake(train, *given, "init_vocabulary=extend")
    assert "init_from=best given, but no run" in mistake(train, *given, "init_from=best")
    assert "init_vocabulary=grow given" in mistake(
        train, *given, f"init_from={trained('lstm')}", "init_vocabulary=grow"
    )
