"""Settings of glibc's memory allocator for freed memory; without glibc these functions do nothing."""

import ctypes
import sys
from contextlib import suppress
from typing import Final

__all__ = ["keep_freed_memory", "return_large_blocks"]

_TRIM_THRESHOLD: Final = -1  # M_TRIM_THRESHOLD of mallopt: free memory at the end of the heap that is kept
_MMAP_THRESHOLD: Final = -3  # M_MMAP_THRESHOLD of mallopt: size from which a block is a mapping, unmapped when freed


def return_large_blocks() -> None:
    """Return freed blocks of 16 MB and more to the system at once; for processes of the commands, not for a library.

    By default glibc keeps freed blocks of up to 32 MB in an arena of each thread: frames of a 4K film and the
    detector's buffers took up to 200 MB more. A 1080p frame has 6 MB.
    """
    _mallopt(_MMAP_THRESHOLD, 16 << 20)


def keep_freed_memory() -> None:
    """Keep freed memory for reuse by the next step, in a training process.

    By default each step's tensors are allocated on fresh pages that the kernel zeroes one by one: 17,000 to 29,000 page
    faults, which take 30 to 60 of a step's 450 ms (EXPERIMENTS.md, 2026-11-29).
    """
    _mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    _mallopt(_MMAP_THRESHOLD, 32 << 20)  # the maximum of glibc


def _mallopt(parameter: int, value: int) -> None:
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # a C library without mallopt
            ctypes.CDLL(None).mallopt(parameter, value)
