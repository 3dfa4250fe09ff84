"""Segments as files of the programs that labs annotate with: ELAN (.eaf), Praat (.TextGrid), and subtitles (.vtt).

One tier per face. ELAN and Praat get every segment; subtitles leave `none` out. Times are the film's own, to the
millisecond.
"""

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from femae.errors import MissingDependencyError, OutputError
from femae.inference.derived.segments import Segment
from femae.labels import NO_EXPRESSION

__all__ = ["require_exports", "write_export"]

_SUFFIX: Final = {"elan": ".eaf", "textgrid": ".TextGrid", "webvtt": ".vtt"}


def require_exports(names: Sequence[str]) -> None:
    """Raise MissingDependencyError, before any work, where the package that writes them is not installed."""
    if {"elan", "textgrid"} & set(names) and find_spec("pympi") is None:
        raise MissingDependencyError("files for ELAN and Praat need pympi-ling: pip install 'femae[exports]'")


def write_export(name: str, folder: Path, *, stem: str, segments: Sequence[Segment], media: Path) -> Path:
    """Write one of config.predict.EXPORTS, whole or not at all; media: the film that it is of. Raises OutputError."""
    write = {"elan": _elan, "textgrid": _textgrid, "webvtt": _webvtt}[name]
    path = folder / f"{stem}{_SUFFIX[name]}"
    part = path.with_name(f"{path.name}.part")
    try:
        part.unlink(missing_ok=True)
        write(part, sorted(segments, key=lambda segment: (segment.start_s, segment.face_id)), media)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"cannot write {path}: {error.strerror or error}; choose another output folder") from error
    return path


def _pympi() -> Any:
    """The package that writes both; it has no annotations."""
    return import_module("pympi")


def _tiers(segments: Sequence[Segment]) -> dict[str, list[Segment]]:
    tiers: dict[str, list[Segment]] = {}
    for segment in segments:
        tiers.setdefault(f"face {segment.face_id}", []).append(segment)
    return tiers


def _milliseconds(segment: Segment) -> tuple[int, int]:
    """Start and end, at least one apart."""
    start = round(1000 * segment.start_s)
    return start, max(start + 1, round(1000 * segment.end_s))


def _elan(path: Path, segments: Sequence[Segment], media: Path) -> None:
    file = _pympi().Eaf(author="femae")
    file.remove_tier("default")
    file.add_linked_file(str(media), mimetype="video/mp4" if media.suffix.lower() == ".mp4" else "video/*")
    for tier, own in _tiers(segments).items():
        file.add_tier(tier)
        for segment in own:
            start, end = _milliseconds(segment)
            file.add_annotation(tier, max(0, start), max(1, end), value=segment.expression)
    file.to_file(str(path))


def _textgrid(path: Path, segments: Sequence[Segment], _media: Path) -> None:
    ends = [_milliseconds(segment) for segment in segments]
    first, last = min([0, *(start for start, _ in ends)]), max([1, *(end for _, end in ends)])
    file = _pympi().TextGrid(xmin=first / 1000, xmax=last / 1000)
    for name, own in _tiers(segments).items():
        tier = file.add_tier(name)
        for segment in own:
            start, end = _milliseconds(segment)
            tier.add_interval(start / 1000, end / 1000, segment.expression, check=False)
    file.to_file(str(path), codec="utf-8")


def _webvtt(path: Path, segments: Sequence[Segment], _media: Path) -> None:
    several = len({segment.face_id for segment in segments}) > 1
    cues = ["WEBVTT\n"]
    for segment in segments:
        if segment.expression != NO_EXPRESSION:
            start, end = (_clock(time) for time in _milliseconds(segment))
            who = f"face {segment.face_id}: " if several else ""
            cues.append(f"{start} --> {end}\n{who}{segment.expression} {segment.mean_probability:.0%}\n")
    path.write_text("\n".join(cues), encoding="utf-8")


def _clock(milliseconds: int) -> str:
    """hh:mm:ss.mmm; what lies before 0 is at 0."""
    seconds, rest = divmod(max(0, milliseconds), 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{rest:03d}"
