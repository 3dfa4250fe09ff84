"""What the C library does with memory that is freed, where it is glibc; elsewhere these do nothing."""

import ctypes
import sys
from contextlib import suppress
from typing import Final

__all__ = ["give_large_blocks_back", "keep_freed_memory"]

_TRIM_THRESHOLD: Final = -1  # of mallopt: how much free memory at the end of the heap stays with the process
_MMAP_THRESHOLD: Final = -3  # of mallopt: from which size on a block is mapped by itself, and given back when freed


def give_large_blocks_back() -> None:
    """Give blocks of 16 MB and more back at once: in the commands' own processes, not where femae is a library.

    glibc keeps freed blocks of up to 32 MB for later, in an arena for each thread: frames of a 4K film and what a
    detector makes of them piled up to 200 MB more. A frame of 1080p has 6 MB.
    """
    _set(_MMAP_THRESHOLD, 16 << 20)


def keep_freed_memory() -> None:
    """Keep what is freed for the next step, in a process that trains.

    By default each step's tensors come as fresh pages that the system clears one by one: 17,000 to 29,000 page faults a
    step, 30 to 60 of 450 ms (EXPERIMENTS.md, 2026-11-29).
    """
    _set(_TRIM_THRESHOLD, 2**31 - 1)
    _set(_MMAP_THRESHOLD, 32 << 20)  # the largest that glibc takes


def _set(name: int, value: int) -> None:
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # a C library without it
            ctypes.CDLL(None).mallopt(name, value)
