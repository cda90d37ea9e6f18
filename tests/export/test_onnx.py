"""ONNX: onnxruntime computes what torch does, whatever the batch, the length and the state."""

import json
import subprocess
import sys
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from lm import LanguageModel
from lm.errors import UserError
from lm.export.onnx import export_onnx, leaves
from lm.models import AdaptiveEmbedding, AdaptiveHead, CausalLM, SoftmaxHead
from tests.conftest import MODELS, V, make_core, make_model

# The LSTM in the default run; an export takes seconds.
CHOSEN = [
    name if name == "lstm" else pytest.param(name, marks=pytest.mark.slow)
    for name in MODELS  # the modern Transformer has the other options of Transformers
    if name != "rnn_tanh"  # has the operators of rnn_relu
]


def session(model, vocabulary, path):
    assert export_onnx(LanguageModel(model, vocabulary), path) < 1e-4
    return onnxruntime.InferenceSession(path)


def assert_same(model, session):
    names = [each.name for each in session.get_inputs()]
    for steps, batch_size, past in ((1, 1, 0), (7, 2, 0), (1, 4, 9), (4, 1, 3)):
        state = model.core.initial_state(batch_size)
        if past:
            _, state = model(torch.randint(V, (past, batch_size)), state)
        tokens = torch.randint(V, (steps, batch_size))
        given = [tokens, *leaves(state)]
        log_probs, next_state = model(tokens, state)
        expected = [log_probs, *leaves(next_state)]
        found = session.run(None, {name: value.detach().numpy() for name, value in zip(names, given, strict=True)})
        for theirs, ours in zip(found, expected, strict=True):
            np.testing.assert_allclose(theirs, ours.detach().numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CHOSEN)
def test_onnxruntime_agrees_with_torch_and_the_file_says_which_words_it_knows_and_how_far_it_looks(
    name, vocabulary, tmp_path
):
    model = make_model(name)
    exported = session(model, vocabulary, tmp_path / "x.onnx")
    assert_same(model, exported)
    said = exported.get_modelmeta().custom_metadata_map
    assert json.loads(said["vocabulary"]) == vocabulary.words
    assert said["context"] == str(model.core.context or 0)
    assert [path.name for path in tmp_path.iterdir()] == ["x.onnx"]


def test_weights_that_one_file_cannot_hold_are_refused(vocabulary, tmp_path, monkeypatch):
    def in_two_files(program, file):
        for path in (file, Path(f"{file}.data")):
            path.write_bytes(b"")

    monkeypatch.setattr("torch.onnx.ONNXProgram.save", in_two_files)
    with pytest.raises(UserError, match="are too large for a single ONNX file: use format=folder"):
        session(make_model("lstm"), vocabulary, tmp_path / "x.onnx")
    assert not (tmp_path / "x.onnx").exists()


@pytest.mark.slow
@pytest.mark.parametrize("tie_weights", [True, False])
def test_adaptive_and_projected_models_agree_too(tie_weights, vocabulary, tmp_path):
    adaptive = partial(AdaptiveEmbedding, embedding_size=8, cutoffs=[5, 12], div_value=2.0)
    head = partial(AdaptiveHead, tie_weights=tie_weights, cutoffs=[5, 12], div_value=2.0)
    model = CausalLM(V, adaptive, make_core("gru"), head).eval()
    assert_same(model, session(model, vocabulary, tmp_path / "adaptive.onnx"))
    if tie_weights:
        projected = make_model("gru", embedding_size=8, tie_weights=True)
        assert isinstance(projected.head, SoftmaxHead)
        assert_same(projected, session(projected, vocabulary, tmp_path / "projected.onnx"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lstm", "transformer"])
def test_the_documented_loop_writes_with_onnxruntime_alone(name, trained, tmp_path):
    from scripts.export import export
    from tests.conftest import ROOT, composed

    export(composed("export", f"ckpt={trained(name)}", "format=onnx", f"out={tmp_path}/best.onnx"))
    readme = (ROOT / "docs" / "export.md").read_text()
    loop = readme.partition("```python\nimport json\n")[2].partition("```")[0]
    code = "import sys\nsys.modules['torch'] = None\nimport json\n" + loop
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    written = done.stdout.split()
    assert len(written) == 50
    successors = sum(a[1:].isdigit() and b == f"w{(int(a[1:]) + 1) % 20}" for a, b in pairwise(written))
    assert successors > 8  # as the corpus has taught; 2 by chance
