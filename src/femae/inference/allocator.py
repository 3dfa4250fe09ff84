"""The C library's memory, told to give large blocks back at once."""

import ctypes
import sys
from contextlib import suppress
from typing import Final

__all__ = ["give_large_blocks_back"]

_M_MMAP_THRESHOLD: Final = -3  # of glibc's mallopt
_LARGE: Final = 16 << 20  # bytes; a frame of 1080p has 6 MB


def give_large_blocks_back() -> None:
    """For processes of our own, not for those of others who use femae as a library.

    glibc keeps freed blocks of up to 32 MB for later, in an arena for each thread: frames of a 4K film and what a
    detector makes of them piled up to 200 MB more. Elsewhere this does nothing.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # a C library without it
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE)
