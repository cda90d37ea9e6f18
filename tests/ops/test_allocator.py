"""Freed memory stays with the process."""

import platform
import subprocess
import sys

import pytest

from lm.ops import allocator

COUNT_FAULTS = """
import ctypes, resource, runpy, sys
way, module = sys.argv[1:]
if way == "keep":
    assert runpy.run_path(module)["keep_freed_memory"]()
libc, address, size = ctypes.CDLL(None), ctypes.c_void_p, 100 * 2**20
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = address, [ctypes.c_size_t], [address]
libc.memset.argtypes = [address, ctypes.c_int, ctypes.c_size_t]
def step():
    block = libc.malloc(size)
    libc.memset(block, 1, size)
    libc.free(block)
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")
def test_a_big_temporary_is_faulted_in_once_and_not_at_every_step():
    faults = {}
    for way in ("give back", "keep"):
        done = subprocess.run(
            [sys.executable, "-c", COUNT_FAULTS, way, allocator.__file__], capture_output=True, text=True, check=True
        )
        faults[way] = int(done.stdout)
    assert faults["keep"] < 100 < faults["give back"]
