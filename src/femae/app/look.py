"""What the page shows of a table: its size, the share of each label, who shows what when, and single rows."""

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from femae.labels import EMOTIONS, NO_EXPRESSION, Compound
from femae.types import LabelView
from femae.video.palette import INK, hex_colour, label_styles

__all__ = ["digest", "rows"]

_BREAK_S: Final = 0.5  # a face that is away for so long begins a new stretch
_LABEL: Final[dict[LabelView, tuple[str, str]]] = {
    "expression": ("expression", "expression_probability"),
    "compound": ("compound", "compound_score"),
}
_PREVIEW: Final = ("source", "frame", "time_s", "face_id", "status", *_LABEL["expression"], *_LABEL["compound"])
_HIDDEN: Final = ("x1", "y1", "x2", "y2")


def digest(path: Path, *, labels: LabelView, compounds: tuple[Compound, ...]) -> dict[str, Any]:
    """Numbers and stretches of a Parquet table of predictions, as JSON holds them.

    `faces` is a list of {id, rows, stretches}; a stretch [start_s, end_s, label, mean of its number] is a time in which
    a face has one label without a break; `styles` tell how labels are drawn. `gaps` are the times [start_s, end_s]
    without any face. Pictures, which have no times, have no stretches.
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
    """Usual time from one frame to the next, seconds."""
    steps = sorted(b - a for a, b in pairwise(times_s))
    return steps[len(steps) // 2] if steps else 0.04


def _stretches(rows_of_face: list[tuple[float, str, float]], step_s: float) -> list[list[Any]]:
    found: list[list[Any]] = []  # [start, end, label, sum of numbers, rows]
    for time_s, label, number in rows_of_face:
        last = found[-1] if found else None
        if last is not None and last[2] == label and time_s - last[1] <= max(_BREAK_S, 2 * step_s):
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
    """Rows `offset` to `offset + limit` of a Parquet table: {columns, rows, total}; numbers are rounded for reading."""
    with pq.ParquetFile(path) as file:
        total = file.metadata.num_rows
        names = [name for name in file.schema_arrow.names if name not in (*_PREVIEW, *_HIDDEN)]
        columns = [*_PREVIEW, *names]
        wanted = max(0, min(limit, total - offset))
        parts: list[list[Any]] = []
        first = 0  # number of the first row of the group
        for group in range(file.num_row_groups):
            size = file.metadata.row_group(group).num_rows
            start, stop = max(offset - first, 0), min(offset + wanted - first, size)
            if start < stop:
                part = file.read_row_group(group, columns=columns).slice(start, stop - start)
                parts += (list(row) for row in zip(*(_shown(part[name]) for name in columns), strict=True))
            first += size
    return {"columns": columns, "rows": parts, "total": total}


def _shown(column: "pa.ChunkedArray[Any]") -> list[Any]:
    if pa.types.is_floating(column.type):
        return [None if value is None else round(value, 4) for value in column.to_pylist()]
    return column.to_pylist()
