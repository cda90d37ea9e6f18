"""The device that a side runs on, by its config: where its tensors are, its precision, its memory and its time."""

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import torch


def device_of(config: dict[str, Any]) -> torch.device:
    """The CPU, or the first GPU."""
    return torch.device("cuda" if config["trainer"]["accelerator"] == "gpu" else "cpu")


def product_dtype(config: dict[str, Any]) -> torch.dtype:
    """The precision of the matrix products."""
    return torch.bfloat16 if config["trainer"]["precision"] == "bf16-mixed" else torch.float32


def autocast(config: dict[str, Any]) -> torch.autocast:
    """A context in which products are in the config's precision."""
    return torch.autocast(device_of(config).type, torch.bfloat16, enabled=product_dtype(config) == torch.bfloat16)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given, so that time can be read."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def peak_megabytes(device: torch.device, reset: bool = False) -> float:
    """The peak of this process's memory on the device, since its start or the last reset.

    Of the CPU's, it is what the process holds now, where the system is not Linux.
    """
    if device.type == "cuda":
        if reset:
            torch.cuda.reset_peak_memory_stats()
        return torch.cuda.max_memory_allocated() / 1e6
    if reset:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    status = Path("/proc/self/status")
    peak = re.search(r"VmHWM:\s*(\d+)", status.read_text(encoding="utf-8")) if status.exists() else None
    return 1024 * int(peak[1]) / 1e6 if peak else psutil.Process().memory_info().rss / 1e6
