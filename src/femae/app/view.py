"""The JSON that the server sends to the page: settings to choose from, the state of a job, rows of its table."""

import time
from collections import Counter
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any, Final, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from femae.app.jobs import Job, JobQueue
from femae.compound.rules import RULES
from femae.config.app import AppConfig
from femae.engine.load import load_engine
from femae.inference.predictor import shipped_model
from femae.labels import CLASS_SETS, EMOTIONS, NO_EXPRESSION, Compound
from femae.types import LabelView
from femae.video.discover import PICTURE_SUFFIXES
from femae.video.palette import INK, hex_colour, label_styles

__all__ = ["DOWNLOADS", "choices", "digest", "file_name", "job_view", "model_names", "rows"]

# Key of an output -> suffix of its file name as a download.
DOWNLOADS: Final = {
    "table.csv": ".csv",
    "table.parquet": ".parquet",
    "table.jsonl": ".jsonl",
    "film.mp4": ".annotated.mp4",
    "pictures.zip": ".annotated.zip",
    "report.html": ".report.html",
}
_RULE_WORDS: Final = {
    "sum": "sum of the two probabilities",
    "product": "product",
    "arithmetic": "arithmetic mean",
    "geometric": "geometric mean",
    "harmonic": "harmonic mean",
}
_LABEL_WORDS: Final[dict[LabelView, str]] = {
    "expression": "none, emotion or compound",
    "compound": "always a compound",
}
_CLASS_WORDS: Final = {"abaw": "ABAW, 7 classes", "raf-db": "RAF-DB, 11 classes"}
_MAX_BREAK_S: Final = 0.5  # longest time without the face within one stretch
_LABEL: Final[dict[LabelView, tuple[str, str]]] = {  # columns of a label and its number
    "expression": ("expression", "expression_probability"),
    "compound": ("compound", "compound_score"),
}
_PREVIEW: Final = ("source", "frame", "time_s", "face_id", "status", *_LABEL["expression"], *_LABEL["compound"])
_HIDDEN: Final = ("x1", "y1", "x2", "y2")


def model_names(models: tuple[Path, ...]) -> list[str]:
    """Names and versions of the shipped model and of the given files. Raises ModelError for a file that is no model."""
    with shipped_model() as shipped:
        specs = [load_engine(path).spec for path in (shipped, *models)]
    names = [f"{spec.name} {spec.version}".strip() for spec in specs]
    return [names[0], *(f"{name} ({path.name})" for name, path in zip(names[1:], models, strict=True))]


def choices(config: AppConfig, *, models: list[str]) -> dict[str, Any]:
    """The settings that the page offers, and the limits it should warn of before an upload."""
    assert set(get_args(LabelView)) == set(_LABEL_WORDS)
    assert set(CLASS_SETS) >= set(_CLASS_WORDS)
    return {
        "models": models,
        "labels": [[key, _LABEL_WORDS[key]] for key in sorted(_LABEL_WORDS, key=lambda key: key != config.labels)],
        "rules": [[rule, _RULE_WORDS.get(rule, rule)] for rule in RULES],
        "classes": [[key, words] for key, words in _CLASS_WORDS.items()],
        "pictureSuffixes": sorted(PICTURE_SUFFIXES),
        "maxBytes": int(config.max_upload_mb * 1e6),
        "maxMinutes": config.max_minutes,
        "maxPictures": config.max_pictures,
        "keepMinutes": config.keep_minutes,
    }


def job_view(job: Job, queue: JobQueue) -> dict[str, Any]:
    """State, progress and downloads of a job; `rate` is in frames per second, `leftS` an estimate in seconds."""
    elapsed_s = time.monotonic() - job.started_s
    rate = job.num_done / elapsed_s if job.state == "running" and job.num_done and elapsed_s > 0 else None
    left_s = None
    if rate and job.num_total is not None and job.phase == "reading":
        left_s = max(0.0, (job.num_total - job.num_done) / rate)
    return {
        "id": job.id,
        "name": job.name,
        "state": job.state,
        "phase": job.phase,
        "stopping": job.cancelled.is_set() and not job.is_finished,
        "position": queue.position(job),
        "message": job.message,
        "problems": job.problems,
        "done": job.num_done,
        "total": job.num_total,
        "rate": rate,
        "leftS": left_s,
        "facts": job.facts,
        "files": [
            {"key": key, "bytes": job.outputs[key].stat().st_size}
            for key in DOWNLOADS
            if job.state == "done" and key in job.outputs
        ],
    }


def file_name(job: Job, key: str) -> str:
    """File name of an output as a download."""
    stem = _download_stem(job.uploads[0].name) if len(job.uploads) == 1 else "pictures"
    if key in DOWNLOADS:
        return stem + DOWNLOADS[key]
    return key


def _download_stem(name: str) -> str:
    """The name without its suffix, up to 80 characters, anything but letters, digits and a few marks replaced."""
    stem = PurePosixPath(name).stem
    kept = "".join(c if c.isalnum() or c in " -_.+()" else "_" for c in stem).strip(" ._")
    return kept[:80] or "result"


def digest(path: Path, *, labels: LabelView, compounds: tuple[Compound, ...]) -> dict[str, Any]:
    """Summary of a Parquet table of predictions, for the timeline of the page.

    `faces` is a list of {id, rows, stretches}; a stretch [start_s, end_s, label, mean] is a time during which a face
    keeps one label, with the mean of the label's probability or score. `gaps` are the times [start_s, end_s] without
    any face, `shares` the number of rows of each label, `styles` how labels are drawn. Pictures, which have no times,
    have neither stretches nor gaps.
    """
    columns: dict[str, list[Any]] = pq.read_table(path, columns=["time_s", "face_id", *_LABEL[labels]]).to_pydict()
    table = list(zip(columns["time_s"], columns["face_id"], *(columns[name] for name in _LABEL[labels]), strict=True))
    found = [row for row in table if row[1] is not None]
    times = sorted({row[0] for row in table if row[0] is not None})
    result: dict[str, Any] = {
        "num_rows": len(table),
        "num_faces": len(found),
        "num_without": len(table) - len(found),
        "shares": Counter(row[2] for row in found).most_common(),
        "start_s": times[0] if times else None,
        "end_s": times[-1] if times else None,
        "labels": labels,
        "styles": label_styles([NO_EXPRESSION, *EMOTIONS, *(compound.name for compound in compounds)], compounds),
        "ink": hex_colour(INK),
        "faces": [],
        "gaps": [],
    }
    if not times:
        return result
    step_s = _step(times)
    by_face: dict[int, list[Any]] = {}
    for time_s, face_id, label, number in found:
        by_face.setdefault(face_id, []).append((time_s, label, number))
    for face_id, rows_of_face in sorted(by_face.items()):
        stretches = _stretches(rows_of_face, step_s)
        result["faces"].append({"id": face_id, "rows": len(rows_of_face), "stretches": stretches})
    result["gaps"] = _gaps([row[0] for row in table if row[1] is None], step_s)
    return result


def _step(times_s: list[float]) -> float:
    """Median time from one frame to the next, seconds."""
    steps = sorted(b - a for a, b in pairwise(times_s))
    return steps[len(steps) // 2] if steps else 0.04


def _stretches(rows_of_face: list[tuple[float, str, float]], step_s: float) -> list[list[Any]]:
    """Merge rows (time, label, number) of one face into [start_s, end_s, label, mean number]."""
    found: list[list[Any]] = []  # [start, end, label, sum of numbers, rows]
    for time_s, label, number in rows_of_face:
        last = found[-1] if found else None
        if last is not None and last[2] == label and time_s - last[1] <= max(_MAX_BREAK_S, 2 * step_s):
            last[1], last[3], last[4] = time_s + step_s, last[3] + number, last[4] + 1
        else:
            found.append([time_s, time_s + step_s, label, number, 1])
    return [[round(a, 4), round(b, 4), name, round(total / n, 4)] for a, b, name, total, n in found]


def _gaps(times_s: list[float], step_s: float) -> list[list[float]]:
    found: list[list[float]] = []
    for time_s in times_s:
        if found and time_s - found[-1][1] <= 0.5 * step_s:
            found[-1][1] = time_s + step_s
        else:
            found.append([time_s, time_s + step_s])
    return [[round(a, 4), round(b, 4)] for a, b in found]


def rows(path: Path, *, offset: int, limit: int) -> dict[str, Any]:
    """Rows `offset` to `offset + limit` of a Parquet table: {columns, rows, total}; floats rounded to 4 digits.

    Reads only the row groups that hold these rows.
    """
    with pq.ParquetFile(path) as file:
        total = file.metadata.num_rows
        names = [name for name in file.schema_arrow.names if name not in (*_PREVIEW, *_HIDDEN)]
        columns = [*_PREVIEW, *names]
        wanted = max(0, min(limit, total - offset))
        page: list[list[Any]] = []
        first = 0  # number of the group's first row
        for group in range(file.num_row_groups):
            size = file.metadata.row_group(group).num_rows
            start, stop = max(offset - first, 0), min(offset + wanted - first, size)
            if start < stop:
                part = file.read_row_group(group, columns=columns).slice(start, stop - start)
                page += (list(row) for row in zip(*(_rounded(part[name]) for name in columns), strict=True))
            first += size
    return {"columns": columns, "rows": page, "total": total}


def _rounded(column: "pa.ChunkedArray[Any]") -> list[Any]:
    if pa.types.is_floating(column.type):
        return [None if value is None else round(value, 4) for value in column.to_pylist()]
    return column.to_pylist()
