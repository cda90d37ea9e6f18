"""The fastest precision that training and evaluation may use without harm."""

import torch


def fast_precision(accelerator: str) -> str:
    """`bf16-mixed` where the CPU multiplies bfloat16 numbers by itself, else `32-true`; both as Lightning names them.

    Matrix products in bfloat16 are at least twice as fast on such a CPU (AVX-512 BF16, AMX) and slower on others; the
    perplexity of a whole split differs by less than 0.1 %. GPUs keep fp32 until someone has measured theirs.

    Args:
        accelerator: Lightning's name of it, such as cpu or gpu.
    """
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not torch.cuda.is_available())
    able = torch.cpu.get_capabilities()
    return "bf16-mixed" if on_cpu and (able.get("avx512_bf16") or able.get("amx_bf16")) else "32-true"
