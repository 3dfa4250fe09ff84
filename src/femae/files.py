"""Files that appear only when complete."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["move_into_place", "replacing"]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A hidden name beside `path` to write to. After the block the file takes the place of `path`.

    Where the block raises, `path` stays as it was and nothing is left behind.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        move_into_place(partial, target=path)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def move_into_place(partial: Path, *, target: Path) -> None:
    """Flush a finished file to the disk and rename it: whoever looks finds the old file or the whole new one."""
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    partial.replace(target)
