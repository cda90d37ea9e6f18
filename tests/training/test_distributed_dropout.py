"""Processes that train together draw different dropout, and still do when they resume."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from lm.training.module import LitLanguageModel
from scripts.train import train
from tests.conftest import ADAM, make_model, run, small, tiny_config


def dropped(rng_state: torch.Tensor | None = None) -> torch.Tensor:
    """What dropout leaves of ones, from a state of torch's generator on."""
    if rng_state is not None:
        torch.set_rng_state(rng_state)
    return F.dropout(torch.ones(200), 0.5)


def test_each_rank_draws_its_own_dropout(vocabulary):
    def drawn(world_size: int, rank: int) -> torch.Tensor:
        module = LitLanguageModel(make_model("lstm"), vocabulary, {})
        module._trainer = SimpleNamespace(world_size=world_size, global_rank=rank)
        torch.manual_seed(5)
        module.on_fit_start()
        return dropped()

    first, second, third = (drawn(3, rank) for rank in range(3))
    assert not torch.equal(first, second)
    assert not torch.equal(first, third)
    assert not torch.equal(second, third)
    assert torch.equal(second, drawn(3, 1))
    torch.manual_seed(5)
    assert torch.equal(drawn(1, 0), dropped(torch.Generator().manual_seed(5).get_state()))


@pytest.mark.slow
def test_two_processes_draw_different_dropout_from_the_start_and_after_resuming(text_folder, tmp_path):
    quiet = ("model=lstm", *ADAM, "~callbacks.sample_text", "test=false", "data.eval_batch_size=3")

    def masks(folder: Path, epochs: int, *overrides: str) -> list[torch.Tensor]:
        arguments = [*small(text_folder, *quiet, f"trainer.max_epochs={epochs}", *overrides), f"hydra.run.dir={folder}"]
        done = run("train", *arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        stored = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
        return [dropped(process["random"]["torch"]) for process in stored["resume"]["processes"]]

    train(tiny_config(text_folder, tmp_path / "one", *quiet, "trainer.max_epochs=1"))
    for folder, epochs in (("two", 1), ("two", 2), ("one", 2)):
        last = tmp_path / folder / "checkpoints" / "last.ckpt"
        resumed = [f"ckpt={last}"] if last.exists() else []
        first, second = masks(tmp_path / folder, epochs, "trainer.devices=2", *resumed)
        assert not torch.equal(first, second), (folder, epochs)
