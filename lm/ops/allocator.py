"""Big temporaries that are reused instead of given back to the kernel after every step."""

import ctypes

# the parameters' numbers in glibc's malloc.h
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4
LARGEST_INT = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees; return whether the C library could be told so.

    glibc maps each block of more than 32 MB afresh and unmaps it when it is freed, so that the kernel zeroes every
    page of a step's [T·B, V] temporaries anew. Keeping them costs peak memory, since holes between blocks are not
    always filled again. See mallopt(3). Without glibc nothing changes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, LARGEST_INT))
