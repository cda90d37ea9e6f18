"""What TensorBoard gets beside curves."""

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lm.models import Core
from scripts.train import train
from tests.conftest import tiny_config


def test_the_projectors_file_holds_no_digits_that_nobody_sees(trained):
    [vectors] = (trained("lstm").parents[1] / "tensorboard").rglob("tensors.tsv")
    assert max(map(len, vectors.read_text().split())) <= len("-1.2345")


def test_a_core_with_a_context_but_without_attention_trains(text_folder, tmp_path, monkeypatch):
    original = Core.__init__
    monkeypatch.setattr(Core, "__init__", lambda core, **sizes: original(core, **sizes, context=8))
    train(tiny_config(text_folder, tmp_path, "model=lstm", "trainer.max_steps=3", "test=false", figures=True))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert "samples/surprisal" in events.Tags()["images"]
    assert "samples/attention" not in events.Tags()["images"]


def test_a_resumed_run_keeps_its_figures_beside_its_curves(text_folder, tmp_path):
    options = ("model=lstm", "test=false", "trainer.limit_train_batches=5")
    train(tiny_config(text_folder, tmp_path, *options, "trainer.max_epochs=1", figures=True))
    last = f"ckpt={tmp_path}/checkpoints/last.ckpt"
    train(tiny_config(text_folder, tmp_path, *options, "trainer.max_epochs=2", last, figures=True))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    steps = [event.step for event in events.Scalars("perplexity/validation")]
    assert len(steps) == 2
    assert [event.step for event in events.Images("samples/surprisal")] == steps
    assert [event.step for event in events.Tensors("samples/text/text_summary")] == steps
    [words] = (tmp_path / "tensorboard" / "projector_config.pbtxt").read_text().split("embeddings {")[1:]
    assert "00010/words/tensors.tsv" in words  # the newest only
