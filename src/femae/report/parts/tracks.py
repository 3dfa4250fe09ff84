"""What a page shows of a table: one track per face id, and the gaps between."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from femae.report.parts.tables import PredictionTable

__all__ = ["Gap", "Track", "clock_text", "find_gaps", "frame_times", "parts_of", "split_tracks", "usual_step_s"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Track:
    """One face id of one table. `rows`: i64[n] rows of the table, by frame."""

    name: str  # "face 1"
    short: str
    table: PredictionTable
    face_id: int
    rows: npt.NDArray[np.int64]

    @property
    def frames(self) -> npt.NDArray[np.int64]:
        """i64[n], rising, from 1."""
        return self.table.frame[self.rows]


@dataclass(frozen=True, kw_only=True, slots=True)
class Gap:
    """Frames in a row without a face, or that cannot be decoded; both ends count."""

    status: str  # no_face, unreadable
    from_frame: int
    to_frame: int

    @property
    def num_frames(self) -> int:
        return self.to_frame - self.from_frame + 1


def split_tracks(table: PredictionTable, *, prefix: str = "", short: str = "") -> list[Track]:
    """The faces of a film by face id."""
    tracks = []
    for face_id in np.unique(table.face_id[table.face_id > 0]):
        rows = np.flatnonzero(table.face_id == face_id)
        rows = rows[np.argsort(table.frame[rows], kind="stable")]
        name = f"{prefix}face {face_id}"
        tracks.append(Track(name=name, short=f"{short}#{face_id}", table=table, face_id=int(face_id), rows=rows))
    return tracks


def parts_of(frames: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """First and last frame of each stretch without a hole, from rising frames."""
    if not len(frames):
        return []
    breaks = np.flatnonzero(np.diff(frames) > 1)
    starts, ends = np.r_[0, breaks + 1], np.r_[breaks, len(frames) - 1]
    return [(int(frames[a]), int(frames[b])) for a, b in zip(starts, ends, strict=True)]


def frame_times(table: PredictionTable) -> npt.NDArray[np.float64]:
    """Presentation time of each frame 1 .. last, f64[F]; a frame without one lies between its neighbours."""
    num_frames = int(table.frame.max())
    times = np.full(num_frames, np.nan)
    times[table.frame - 1] = table.time_s
    known = np.flatnonzero(np.isfinite(times))
    if not len(known):
        return np.arange(num_frames, dtype=np.float64)
    filled = np.interp(np.arange(num_frames), known, times[known])
    return np.maximum.accumulate(filled)


def usual_step_s(times: npt.NDArray[np.float64]) -> float:
    """Median time from frame to frame; 0.04 for a single one."""
    steps = np.diff(times)
    steps = steps[steps > 0]
    return float(np.median(steps)) if len(steps) else 0.04


def find_gaps(table: PredictionTable) -> list[Gap]:
    """Stretches of one status other than ok, in order."""
    gaps = []
    for status in ("no_face", "unreadable"):
        frames = np.unique(table.frame[table.status == status])
        gaps += [Gap(status=status, from_frame=a, to_frame=b) for a, b in parts_of(frames)]
    return sorted(gaps, key=lambda gap: gap.from_frame)


def clock_text(seconds: float, *, digits: int = 3) -> str:
    """1:02.040, or 1:00:02.040 from one hour on."""
    scale = 10**digits
    ticks = round(abs(seconds) * scale)
    whole, part = divmod(ticks, scale)
    hours, minutes, secs = whole // 3600, whole // 60 % 60, whole % 60
    head = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    tail = f".{part:0{digits}d}" if digits else ""
    return f"{'-' if seconds < 0 else ''}{head}:{secs:02d}{tail}"
