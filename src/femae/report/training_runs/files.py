"""What lies in the folder of a training run: log, settings, scores, reconstructions."""

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
    """`steps` and `epochs`: the log's objects in order, each step and epoch once; after a resume the later counts."""

    steps: list[dict[str, Any]] = field(default_factory=list)
    epochs: list[dict[str, Any]] = field(default_factory=list)
    num_resumes: int = 0
    num_bad: int = 0  # lines that are no JSON object: the last one of a killed run

    def column(self, kind: Literal["steps", "epochs"], name: str) -> npt.NDArray[np.float64]:
        """f64[n], NaN where absent; `name` may reach into an object: val.macro_f1."""
        return np.array([_number(_inside(record, name)) for record in getattr(self, kind)], np.float64)


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """probs, targets f32[N, C] of `names`; mask bool[N, C]: False where a target is unknown."""

    names: tuple[str, ...]
    probs: npt.NDArray[np.float32]
    targets: npt.NDArray[np.float32]
    mask: npt.NDArray[np.bool_]


def folder_kind(folder: Path) -> Kind:
    """What a folder holds by its files; empty: nothing that can be reported."""
    if (folder / "ablation.json").is_file():
        return "ablation"
    if (folder / "kfold.json").is_file():
        return "kfold"
    return "run" if any((folder / name).is_file() for name in ("log.jsonl", "run.json", "scores.parquet")) else ""


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object; empty where the file is absent. Raises InputError when it is damaged."""
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
    """The log of a run; empty where there is none."""
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
    """Emotions and action units of a scores table; None for what it does not hold. Raises InputError."""
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
    """Predicted and true emotion i64[n] each of the samples that have one clear true emotion."""
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


def _inside(record: Mapping[str, Any], name: str) -> Any:
    value: Any = record
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
