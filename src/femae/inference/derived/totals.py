"""Totals of an input: a row per face of a film, one row for pictures.

Shares and means of a film weight each frame by its duration; those of pictures count faces. A change is a frame whose
expression differs from that of the previous frame, if the face is visible in both.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from femae.compound.expression import ExpressionRule
from femae.inference.derived.frames import SeenFace, SeenFrame, TimedFrame
from femae.labels import EMOTIONS, Compound

__all__ = ["Totals", "total_batch", "totals_schema"]


def totals_schema(compounds: tuple[Compound, ...]) -> pa.Schema:
    """The columns for one class set; for pictures face_id, seconds and rates are null."""
    answers = ["none", *EMOTIONS, *(compound.column for compound in compounds)]
    fields: list[pa.Field[Any]] = [
        pa.field("source", pa.string(), nullable=False),
        pa.field("face_id", pa.int64()),
        pa.field("num_frames", pa.int64(), nullable=False),
        *(pa.field(name, pa.float64()) for name in ("seconds", "first_s", "last_s", "changes_per_minute")),
        *(pa.field(f"share_{name}", pa.float32()) for name in answers),
        *(pa.field(f"mean_{name}", pa.float32()) for name in EMOTIONS),
        pa.field("input_frames", pa.int64(), nullable=False),
        pa.field("input_share_no_face", pa.float32(), nullable=False),
        pa.field("input_share_unreadable", pa.float32(), nullable=False),
    ]
    return pa.schema(fields)


@dataclass(kw_only=True, slots=True)
class _FaceTotals:
    num_frames: int = 0
    weight: float = 0.0
    seconds: float = 0.0
    first_s: float | None = None
    end_s: float | None = None
    changes: int = 0
    last: str = ""
    probs: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(EMOTIONS)))
    by_expression: dict[str, float] = field(default_factory=dict)

    def add(self, face: SeenFace, *, weight: float) -> None:
        self.num_frames += 1
        self.weight += weight
        self.probs += weight * face.probs
        self.by_expression[face.expression] = self.by_expression.get(face.expression, 0.0) + weight

    def add_interval(self, face: SeenFace, *, start_s: float, end_s: float) -> None:
        """Extend the time in which the face is visible, and count a change of its expression."""
        adjacent = self.end_s is not None and abs(self.end_s - start_s) < 1e-6
        self.changes += adjacent and face.expression != self.last
        self.last, self.end_s = face.expression, end_s
        self.first_s = start_s if self.first_s is None else self.first_s
        self.seconds += end_s - start_s


class Totals:
    """Accumulates the totals of one input in one record per face id."""

    def __init__(self, name: str, *, compounds: tuple[Compound, ...], film: bool) -> None:
        self.name, self.film, self.compounds = name, film, compounds
        self._faces: dict[int, _FaceTotals] = {}
        self._status = {"ok": 0, "no_face": 0, "unreadable": 0}

    def count(self, frame: SeenFrame) -> None:
        """Count one frame; call once for every frame of the input."""
        self._status[frame.status] += 1
        if not self.film:
            for face in frame.faces:
                self._faces.setdefault(0, _FaceTotals()).add(face, weight=1.0)

    def push(self, moment: TimedFrame) -> None:
        """Add one frame of a film, once its duration is known."""
        length = moment.end_s - moment.start_s
        for face in moment.frame.faces:
            total = self._faces.setdefault(face.face_id, _FaceTotals())
            total.add(face, weight=length or 1e-9)
            total.add_interval(face, start_s=moment.start_s, end_s=moment.end_s)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yields a row per face, ordered by id; for pictures, or without any face, one row without a face_id."""
        count = sum(self._status.values())
        about = {
            "source": self.name,
            "input_frames": count,
            "input_share_no_face": self._status["no_face"] / max(count, 1),
            "input_share_unreadable": self._status["unreadable"] / max(count, 1),
        }
        if not self._faces:
            yield {**about, "num_frames": 0}
        for face_id, total in sorted(self._faces.items()):
            row = {**about, "face_id": face_id if self.film else None, "num_frames": total.num_frames}
            if self.film:
                minutes = total.seconds / 60
                row |= {
                    "seconds": total.seconds,
                    "first_s": total.first_s,
                    "last_s": total.end_s,
                    "changes_per_minute": total.changes / minutes if minutes > 0 else None,
                }
            columns = ("none", *EMOTIONS, *(compound.column for compound in self.compounds))
            for name, column in zip(ExpressionRule(self.compounds).names, columns, strict=True):
                row[f"share_{column}"] = total.by_expression.get(name, 0.0) / total.weight
            yield row | {
                f"mean_{name}": value for name, value in zip(EMOTIONS, total.probs / total.weight, strict=True)
            }


def total_batch(rows: list[dict[str, Any]], *, compounds: tuple[Compound, ...]) -> pa.RecordBatch:
    """Rows of totals_schema."""
    return pa.RecordBatch.from_pylist(rows, schema=totals_schema(compounds))
