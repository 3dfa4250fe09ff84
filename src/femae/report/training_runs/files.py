"""Reads the files in the folder of a training run: log, settings and scores."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from femae.errors import InputError
from femae.labels import EMOTIONS
from femae.metrics.hard_labels import top_emotion

__all__ = ["RunLog", "Scores", "folder_kind", "hard_classes", "read_log", "read_object", "read_scores"]

Kind = Literal["run", "kfold", "ablation", ""]


@dataclass(kw_only=True, slots=True)
class RunLog:
    """`steps`, `epochs`: the log's records in order, each once; steps repeated after a resume replace earlier ones."""

    steps: list[dict[str, Any]] = field(default_factory=list)
    epochs: list[dict[str, Any]] = field(default_factory=list)
    num_resumes: int = 0
    num_bad: int = 0  # lines that are not JSON objects, such as the last one of a killed run

    def column(self, kind: Literal["steps", "epochs"], name: str) -> npt.NDArray[np.float64]:
        """The values f64[n] of a field, NaN where absent; `name` may be a path such as val.macro_f1."""
        return np.array([_number(_nested(record, name)) for record in getattr(self, kind)], np.float64)


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """probs, targets f32[N, C] of `names`; mask bool[N, C]: False where a target is unknown."""

    names: tuple[str, ...]
    probs: npt.NDArray[np.float32]
    targets: npt.NDArray[np.float32]
    mask: npt.NDArray[np.bool_]


def folder_kind(folder: Path) -> Kind:
    """The kind of a folder, told by its files; empty if there is nothing to report."""
    if (folder / "ablation.json").is_file():
        return "ablation"
    if (folder / "kfold.json").is_file():
        return "kfold"
    return "run" if any((folder / name).is_file() for name in ("log.jsonl", "run.json", "scores.parquet")) else ""


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object; empty if the file does not exist. Raises InputError if it is damaged."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"'{path}' cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"'{path}' holds no JSON object")
    return value


def read_log(path: Path) -> RunLog:
    """Read the log of a run; empty if there is none."""
    log = RunLog()
    if not path.is_file():
        return log
    steps: dict[float, dict[str, Any]] = {}
    epochs: dict[float, dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            log.num_bad += bool(line.strip())
            continue
        kind = record.get("kind")
        if kind == "resume":
            log.num_resumes += 1
            since = _number(record.get("step"))
            steps = {step: value for step, value in steps.items() if not step > since}
        elif kind == "step":
            steps[_number(record.get("step"))] = record
        elif kind == "epoch":
            epochs[_number(record.get("epoch"))] = record
    log.steps = [steps[key] for key in sorted(steps)]
    log.epochs = [epochs[key] for key in sorted(epochs)]
    return log


def read_scores(path: Path) -> tuple[Scores | None, Scores | None]:
    """Read the scores of emotions and of action units; None for those not in the table. Raises InputError."""
    if not path.is_file():
        return None, None
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"'{path}' cannot be read as a scores table: {str(error).splitlines()[0]}") from error
    names = table.schema.names
    emotions = tuple(name for name in EMOTIONS if name in names and f"target_{name}" in names)
    units = tuple(name for name in names if name.startswith("AU") and f"target_{name}" in names)
    return (
        _scores(table, emotions) if len(emotions) == len(EMOTIONS) else None,
        _scores(table, units) if units else None,
    )


def hard_classes(scores: Scores) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Predicted and true emotion, i64[n] each, of the samples with a single true emotion (top_emotion)."""
    true = top_emotion(scores.targets, mask=scores.mask)
    known = true >= 0
    return scores.probs.argmax(1)[known].astype(np.int64), true[known]


def _scores(table: pa.Table, names: tuple[str, ...]) -> Scores:
    def columns(chosen: list[str]) -> npt.NDArray[np.float32]:
        arrays = [np.asarray(table[name].cast(pa.float32()).to_numpy(zero_copy_only=False)) for name in chosen]
        return np.stack(arrays, axis=1).astype(np.float32)

    targets = columns([f"target_{name}" for name in names])
    mask = np.isfinite(targets)
    return Scores(names=names, probs=columns(list(names)), targets=np.where(mask, targets, 0), mask=mask)


def _nested(record: Mapping[str, Any], name: str) -> Any:
    value: Any = record
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
