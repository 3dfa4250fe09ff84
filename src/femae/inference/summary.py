"""What one input gave, in a few lines: frames, faces, share of each label, speed."""

import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from femae.types import CLEAR_SUM, FaceResult, FrameResult, LabelView

__all__ = ["Summary", "passed_over_line"]

_WEAK: Final = "nothing clear"
_ABSTAINED: Final = "abstained"


class Summary:
    """Counts results as they pass; memory does not grow with the length of a film."""

    def __init__(self, name: str, *, labels: LabelView = "expression") -> None:
        self.name, self.view = name, labels
        self.status: Counter[str] = Counter()
        self.labels: Counter[str] = Counter()
        self.num_faces = 0
        self.face_ids: set[int] = set()
        self._started = time.perf_counter()

    def add(self, result: FrameResult) -> None:
        self.status[result.status] += 1
        for face in result.faces:
            self.num_faces += 1
            self.face_ids.add(face.face_id)
            self.labels[self._word(face)] += 1

    def _word(self, face: FaceResult) -> str:
        """What a face is counted as; a compound of a face that shows nothing clearly is counted by itself."""
        name, _ = face.label(self.view)
        return _WEAK if self.view == "compound" and face.weak and name else name or _ABSTAINED

    @property
    def num_frames(self) -> int:
        return self.status.total()

    @property
    def num_rows(self) -> int:
        """Of the table: one per face, and one per frame without a face."""
        return self.num_faces + self.status["no_face"] + self.status["unreadable"]

    @property
    def seconds(self) -> float:
        """Since the summary was begun."""
        return time.perf_counter() - self._started

    def lines(self, *, outputs: list[Path], film: bool, seconds: float | None = None, device: str = "") -> list[str]:
        """The summary in words; `seconds` it took, by default until now, and on what."""
        seconds = self.seconds if seconds is None else seconds
        unit = "frame" if film else "picture"
        frames = f"{self.num_frames} {unit}{'s' * (self.num_frames != 1)}"
        parts = [f"{self.status['ok']} with a face", f"{self.status['no_face']} without"]
        if self.status["unreadable"]:
            parts.append(f"{self.status['unreadable']} unreadable")
        people = f", {len(self.face_ids)} face id{'s' * (len(self.face_ids) != 1)}" if film else ""
        rate = f"{self.num_frames / max(seconds, 1e-9):.0f} {unit}s/s"
        lines = [
            f"{self.name}: {frames} ({', '.join(parts)}){people}, {seconds:.1f} s, {rate}{device and f' on {device}'}"
        ]
        if self.num_faces:
            shares = [f"{name} {count / self.num_faces:.0%}" for name, count in self.labels.most_common()]
            lines.append("  " + ", ".join(shares))
            if self.labels[_WEAK]:
                lines.append(
                    f"  {_WEAK}: the six add up to less than {CLEAR_SUM}; the table has the best label even so"
                )
        lines += [f"  -> {path}" for path in outputs]
        return lines


def passed_over_line(suffixes: Iterable[str]) -> str:
    """How many files of the folders given were neither pictures nor films; empty: none."""
    counts = Counter(suffixes)
    if not counts:
        return ""
    kinds = ", ".join(f"{suffix or 'without a suffix'} {count}" for suffix, count in counts.most_common())
    return f"{counts.total()} file{'s' * (counts.total() != 1)} passed over, neither picture nor film: {kinds}"
