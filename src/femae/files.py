"""Atomic writing of files: they appear under their final name only when complete."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["move_into_place", "replacing"]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write to; after the `with` block it replaces `path`.

    If the block raises, `path` is unchanged and the temporary file is deleted.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        move_into_place(partial, target=path)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def move_into_place(partial: Path, *, target: Path) -> None:
    """Flush a finished file to disk and rename it, so that readers see the old or the complete new file."""
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    partial.replace(target)
