"""Memory that a step lets go stays with the process, for the next step."""

import ctypes
import platform

# Parameters of glibc's mallopt (malloc.h).
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
LARGEST_MMAP_THRESHOLD = 32 * 2**20
"""What glibc takes at most."""
PAD = 64 * 2**20


def keep_freed_memory() -> None:
    """Have glibc keep what is freed; without effect where the C library is another.

    A thread that is not a process's first gives every large array back to the kernel, which clears
    each page again at the next step: workers of Ray Train lost a quarter of their rate by it.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
    mallopt(TRIM_THRESHOLD, 2**31 - 1)
    mallopt(TOP_PAD, PAD)
