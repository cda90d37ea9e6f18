"""The precisions that a machine supports, and the default of training and evaluation."""

import functools

import torch
from torch import nn

from lm.errors import UserError


def fast_precision(accelerator: str) -> str:
    """`bf16-mixed` where the CPU or GPU multiplies bfloat16 in hardware, else `32-true`; both are Lightning's names.

    Matrix products in bfloat16 are at least twice as fast on such a CPU (AVX-512 BF16, AMX) and slower on others; the
    perplexity of a whole split differs by less than 0.1 %. CUDA GPUs have it from Ampere (2020) on.
    """
    if not runs_on_cpu(accelerator):
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = torch.cpu.get_capabilities()
        native = (capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")) and has_bfloat16_lstm()
    return "bf16-mixed" if native else "32-true"


def check_precision(model: nn.Module, precision: str | int, accelerator: str, key: str) -> None:
    """Check that this CPU has the kernels for a model in `precision`, which the config has under `key`."""
    mixed = str(precision) in ("bf16", "bf16-mixed", "16", "16-mixed")  # Lightning runs the latter as bf16 on a CPU
    has_lstm = any(isinstance(module, nn.LSTM) for module in model.modules())
    if mixed and has_lstm and runs_on_cpu(accelerator) and not has_bfloat16_lstm():
        raise UserError(
            f"{key}={precision} given, but this CPU has no AVX-512, without which oneDNN has no LSTM in bfloat16: "
            f"use {key}=32-true, or model=gru."
        )


def runs_on_cpu(accelerator: str) -> bool:
    """Whether Lightning's `accelerator` means the CPU on this machine."""
    return accelerator == "cpu" or (accelerator == "auto" and not torch.cuda.is_available())


@functools.cache
def has_bfloat16_lstm() -> bool:
    """Whether oneDNN has an LSTM in bfloat16 here: it needs AVX-512 and respects ONEDNN_MAX_CPU_ISA."""
    try:
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
            nn.LSTM(1, 1)(torch.zeros(1, 1, 1))
    except RuntimeError:
        return False
    return True
