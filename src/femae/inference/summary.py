"""What one input gave, in a few lines: frames, faces, share of each compound, speed."""

import time
from collections import Counter
from pathlib import Path
from typing import Final

from femae.labels import Compound
from femae.types import CLEAR_SUM, FrameResult

__all__ = ["Summary"]

_WEAK: Final = "nothing clear"
_ABSTAINED: Final = "abstained"


class Summary:
    """Counts results as they pass; memory does not grow with the length of a film."""

    def __init__(self, name: str, *, compounds: tuple[Compound, ...]) -> None:
        self.name, self.compounds = name, compounds
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
            self.labels[_WEAK if face.weak and face.compound else face.compound or _ABSTAINED] += 1

    @property
    def num_frames(self) -> int:
        return self.status.total()

    def lines(self, *, outputs: list[Path], film: bool) -> list[str]:
        """The summary in words."""
        seconds = time.perf_counter() - self._started
        unit = "frame" if film else "picture"
        frames = f"{self.num_frames} {unit}{'s' * (self.num_frames != 1)}"
        parts = [f"{self.status['ok']} with a face", f"{self.status['no_face']} without"]
        if self.status["unreadable"]:
            parts.append(f"{self.status['unreadable']} unreadable")
        people = f", {len(self.face_ids)} face id{'s' * (len(self.face_ids) != 1)}" if film else ""
        rate = f"{self.num_frames / max(seconds, 1e-9):.0f} {unit}s/s"
        lines = [f"{self.name}: {frames} ({', '.join(parts)}){people}, {seconds:.1f} s, {rate}"]
        if self.num_faces:
            shares = [f"{name} {count / self.num_faces:.0%}" for name, count in self.labels.most_common()]
            lines.append("  " + ", ".join(shares))
            if self.labels[_WEAK]:
                lines.append(
                    f"  {_WEAK}: the six add up to less than {CLEAR_SUM}; the table has the best label even so"
                )
        lines += [f"  -> {path}" for path in outputs]
        return lines
