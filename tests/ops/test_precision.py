"""Which precision a machine gets, and which it is refused."""

import os
from types import SimpleNamespace

import pytest
import torch

from lm.errors import UserError
from lm.ops import check_precision, fast_precision, has_bfloat16_lstm
from lm.training.process import prepare_process
from tests.conftest import LSTMS, make_model, run, small


def pretend(monkeypatch, able, lstm=True):
    """Stand in for a CPU with the capabilities `able`, and with or without oneDNN's LSTM in bfloat16."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    monkeypatch.setattr("lm.ops.precision.has_bfloat16_lstm", lambda: lstm)


@pytest.mark.parametrize(
    ("able", "lstm", "accelerator", "precision"),
    [
        ({"avx512_bf16": True}, True, "cpu", "bf16-mixed"),
        ({"amx_bf16": True}, True, "cpu", "bf16-mixed"),
        ({"avx512_bf16": True}, False, "cpu", "32-true"),  # ONEDNN_MAX_CPU_ISA=AVX2
        ({"avx2": True, "avx512_bf16": False}, False, "cpu", "32-true"),
        ({}, False, "cpu", "32-true"),
    ],
)
def test_bfloat16_is_for_cpus_that_multiply_it_by_themselves(monkeypatch, able, lstm, accelerator, precision):
    pretend(monkeypatch, able, lstm)
    assert fast_precision(accelerator) == precision


def pretend_gpu(monkeypatch, major):
    """Stand in for a CUDA GPU of that compute capability; None for no GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: major is not None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(major=major))


@pytest.mark.parametrize(
    ("major", "precision"), [(9, "bf16-mixed"), (8, "bf16-mixed"), (7, "32-true"), (None, "32-true")]
)
def test_bfloat16_is_for_gpus_that_multiply_it_by_themselves(monkeypatch, major, precision):
    pretend(monkeypatch, {"amx_bf16": True})
    pretend_gpu(monkeypatch, major)
    assert fast_precision("gpu") == precision


@pytest.mark.parametrize(
    ("cpu", "major", "precision"),
    [(True, 7, "32-true"), (False, 8, "bf16-mixed"), (True, None, "bf16-mixed"), (False, None, "32-true")],
)
def test_auto_means_what_it_will_choose(monkeypatch, cpu, major, precision):
    pretend(monkeypatch, {"amx_bf16": cpu})
    pretend_gpu(monkeypatch, major)
    assert fast_precision("auto") == precision


def test_a_cpu_is_chosen_without_a_look_at_the_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", None)
    assert fast_precision("cpu") in ("bf16-mixed", "32-true")


def test_gpus_multiply_fp32_in_tf32_and_cpus_do_not():
    of_cpu = torch.backends.mkldnn.matmul.fp32_precision
    prepare_process()
    assert torch.backends.cuda.matmul.allow_tf32
    assert torch.get_float32_matmul_precision() == "high", "what Lightning would advise"
    assert torch.backends.mkldnn.matmul.fp32_precision == of_cpu


def test_a_bfloat16_lstm_is_refused_where_the_cpu_has_none(monkeypatch):
    pretend(monkeypatch, {"avx2": True}, lstm=False)
    with pytest.raises(UserError, match=r"trainer\.precision=bf16-mixed given, but this CPU has no AVX-512"):
        check_precision(make_model("lstm"), "bf16-mixed", "cpu", "trainer.precision")
    check_precision(make_model("lstm"), "32-true", "cpu", "trainer.precision")
    check_precision(make_model("lstm"), "bf16-mixed", "gpu", "trainer.precision")
    check_precision(make_model("gru"), "bf16-mixed", "cpu", "trainer.precision")


def test_every_core_trains_in_the_precision_that_it_gets(core_name):
    """What is not refused on this machine works on it: forward and backward, with and without gradients."""
    model = make_model(core_name).train()
    try:
        check_precision(model, "bf16-mixed", "cpu", "trainer.precision")
    except UserError:
        assert core_name in LSTMS and not has_bfloat16_lstm()
        return
    tokens = torch.randint(20, (5, 3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        nll, state = model.nll(tokens, tokens)
        nll.mean().backward()
        with torch.no_grad():
            nll, _ = model.nll(tokens[:1], tokens[:1], state)
    assert nll.isfinite().all()


@pytest.mark.slow
def test_without_avx512_an_lstm_trains_in_fp32_and_bfloat16_is_one_line(text_folder, tmp_path):
    env = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    options = small(text_folder, "trainer.max_epochs=1", "test=false", "hydra.run.dir=run")
    refused = run("train", *options, "trainer.precision=bf16-mixed", cwd=tmp_path, env=env)
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert "trainer.precision=bf16-mixed given, but this CPU has no AVX-512" in refused.stderr
    done = run("train", *options, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
