"""Reuse large temporaries instead of returning them to the kernel after every step."""

import ctypes

# parameter numbers from glibc's malloc.h
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4
LARGEST_INT = 2**31 - 1


def keep_freed_memory() -> bool:
    """Keep freed memory in this process; return whether the C library supports it.

    glibc allocates each block of more than 32 MB by mmap and unmaps it when freed, so the kernel zeroes every page of
    a step's [T·B, V] temporaries again. Keeping them costs peak memory, since holes between blocks are not always
    filled again. See mallopt(3). Without glibc nothing changes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, LARGEST_INT))
