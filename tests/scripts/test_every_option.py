"""Every core, head, embedding, regulariser, optimizer and schedule trains, resumes and is exported.

A new option is taken up by itself.
"""

from pathlib import Path

import pytest
import torch

from lm import LanguageModel
from scripts.export import export
from scripts.train import train
from tests.conftest import EMBEDDINGS, HEADS, MODELS, composed, options, tiny_config
from tests.training.resume.test_resume import crash

SHORT = (
    *("trainer.max_epochs=1", "trainer.max_steps=4", "trainer.limit_val_batches=2", "scheduler=constant"),
    *("optimizer.lr=0.1", "test=false", "callbacks.resumable_checkpoint.every_n_steps=2"),
)
DEFAULTS = {"model/head=softmax", "model/embedding=full", "regularizer=none", "scheduler=constant", "optimizer=sgd"}
OPTIONS = [
    "model=lstm",
    *(f"model/head={name}" for name in HEADS),
    *(f"model/embedding={name}" for name in EMBEDDINGS),
    *(f"regularizer={name}" for name in options("regularizer")),
    *(f"optimizer={name}" for name in options("optimizer")),
    *(f"scheduler={name}" for name in options("scheduler")),
    *(f"model={name} optimizer=muon" for name in MODELS),
]


def last(run_dir: Path) -> dict:
    return torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.mark.slow
@pytest.mark.parametrize("option", [option for option in OPTIONS if option not in DEFAULTS])
def test_it_trains_resumes_bitwise_and_is_exported(option, text_folder, tmp_path):
    small = {
        "model/head=adaptive": ["model.head.cutoffs=[6]"],
        "model/embedding=adaptive": ["model.embedding.cutoffs=[6]"],
        "model/head=sampled": ["model.head.num_frequent=4", "model.head.num_sampled=6"],
    }
    overrides = (*SHORT, *option.split(), *small.get(option, []))
    train(tiny_config(text_folder, tmp_path / "whole", *overrides))
    crash(text_folder, tmp_path / "parts", 2, *overrides)  # not a shorter run, whose schedule would be another
    train(tiny_config(text_folder, tmp_path / "parts", *overrides, f"ckpt={tmp_path}/parts"))
    whole, parts = last(tmp_path / "whole"), last(tmp_path / "parts")
    assert whole["global_step"] == parts["global_step"] == 4
    torch.testing.assert_close(whole["state_dict"], parts["state_dict"], rtol=0, atol=0)

    checkpoint = tmp_path / "whole" / "checkpoints" / "last.ckpt"
    export(composed("export", f"ckpt={checkpoint}", "format=folder", f"out={tmp_path}/model"))
    models = [LanguageModel.load(path).model for path in (checkpoint, tmp_path / "model")]
    tokens = torch.randint(20, (5, 2))
    assert torch.equal(*(model(tokens)[0] for model in models))
