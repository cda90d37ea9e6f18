"""A benchmark of this project's loops against a plain PyTorch loop, taking turns on one machine."""
