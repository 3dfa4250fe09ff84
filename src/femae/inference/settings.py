"""What decides the outputs of a run, as plain values: two runs of equal settings give equal outputs."""

import hashlib
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import femae
from femae.config.predict import PredictConfig
from femae.engine.load import find_model
from femae.inference.predictor import Predictor, shipped_model

__all__ = ["run_settings"]


def run_settings(config: PredictConfig, predictor: Predictor) -> dict[str, Any]:
    """Options by name, the version, and the contents of the model files; not what decides only the speed."""
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
    """Of a model's file, with the weights beside it; of a run's folder, of all files by name, size and time."""
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
