"""The random state of a process, in primitive types, as a checkpoint keeps it."""

import random
from typing import Any

import numpy as np
import torch


def random_state() -> dict[str, Any]:
    """The states of Python's, numpy's, torch's and every GPU's generator."""
    version, internal, gauss = random.getstate()
    numpy_state = np.random.get_state(legacy=False)["state"]
    return {
        "python": [version, list(internal), gauss],
        "numpy": [numpy_state["key"].tolist(), int(numpy_state["pos"])],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Restore the states from `random_state`; GPUs without a saved state are left unchanged."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    key, position = state["numpy"]
    np.random.set_state({"bit_generator": "MT19937", "state": {"key": np.array(key, np.uint32), "pos": position}})
    torch.set_rng_state(state["torch"])
    for device, cuda_state in zip(range(torch.cuda.device_count()), state["cuda"], strict=False):
        torch.cuda.set_rng_state(cuda_state, device)
