"""Result files, each written under a temporary name and renamed."""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

from femae.errors import OutputError

__all__ = ["csv_bytes", "write_file"]


def csv_bytes(rows: Sequence[Sequence[str]]) -> bytes:
    """Rows as CSV, UTF-8."""
    target = io.StringIO()
    csv.writer(target, lineterminator="\n").writerows(rows)
    return target.getvalue().encode("utf-8", "backslashreplace")


def write_file(path: Path, data: bytes) -> None:
    """Write a whole file; one of that name is replaced. Raises OutputError, and then nothing is left behind."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        if path.parent.is_dir():
            partial.unlink(missing_ok=True)
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}; choose another folder with --out"
        ) from error
