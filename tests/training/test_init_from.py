"""Fine-tuning: a run that begins with a trained model."""

import json
import math

import pytest
import torch
from hydra.utils import instantiate

from lm import LanguageModel
from lm.data import EOS, UNK, Vocabulary
from lm.errors import UserError
from lm.models import CausalLM
from lm.training.init_from import load_weights
from scripts.train import train
from tests.conftest import mistake, run, small, small_model_config, tiny_config

OURS = Vocabulary([EOS, UNK, "w1", "w2", "w3"])


def small_model(name: str, vocabulary: Vocabulary, *overrides: str) -> CausalLM:
    return instantiate(small_model_config(name, *overrides), vocabulary_size=len(vocabulary)).eval()


def trained_model(name: str, *overrides: str) -> LanguageModel:
    torch.manual_seed(1)
    model = small_model(name, OURS, *overrides)
    torch.nn.init.normal_(model.head.decoder.bias)
    return LanguageModel(model, OURS)


@pytest.mark.parametrize("tied", ["true", "false"])
def test_new_words_share_the_probability_of_unk_and_the_others_keep_theirs(tied):
    trained = trained_model("lstm", f"model.head.tie_weights={tied}")
    extended = Vocabulary([*OURS.words, "new", "newer"])
    model = small_model("lstm", extended, f"model.head.tie_weights={tied}")
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
        refused = run("train", *common, override, cwd=tmp_path)
        assert (refused.returncode, refused.stderr.count("Traceback")) == (1, 0), refused.stderr
        assert message in refused.stderr


def test_mistakes_are_one_line(trained, text_folder):
    given = [*small(text_folder), "run_dir=x"]
    assert "No checkpoint at init_from=nowhere" in mistake(train, *given, "init_from=nowhere")
    assert "init_vocabulary=grow given" in mistake(
        train, *given, f"init_from={trained('lstm')}", "init_vocabulary=grow"
    )
