"""Labels every frame of the organisers' template, from films of faces; the result is the rows of the label file.

Steps: score each face, merge several faces of a frame, fill frames without a face, smooth, decide, align with the
template. A frame that could not be decoded counts as a frame without a face.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from femae.abaw.film import Film, empty_film
from femae.abaw.frames import align_frames, fill_frames, merge_faces, side_of
from femae.abaw.label_file import Template
from femae.abaw.labelling import Labels, parse_class
from femae.compound.smoothing import smooth
from femae.config.abaw import WriteConfig
from femae.errors import ConfigError, DataError

__all__ = ["Submission", "VideoReport", "label_videos"]

_Integers = npt.NDArray[np.int64]
_SIDES: Final = {"_left": "left", "_right": "right"}
_FILLS: Final = ("interpolate", "nearest")


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoReport:
    """Statistics of one video."""

    video: str
    rows: int  # rows written
    film_frames: int  # 0: the video was not among the inputs
    template_frames: int | None  # the largest frame in the template
    with_face: int  # frames of the film with a face
    no_face: int  # frames of the film without a face, including `unreadable`
    unreadable: int
    several_faces: int  # frames of the film with two or more
    moved: int  # rows that take the label of a frame with another number

    @property
    def difference(self) -> int:
        """Number of frames of the film minus that of the template; 0 if one of them is unknown."""
        return 0 if self.template_frames is None or not self.film_frames else self.film_frames - self.template_frames


@dataclass(frozen=True, kw_only=True, slots=True)
class Submission:
    """All rows of the label file, in the template's order if there is one."""

    videos: tuple[str, ...]  # of each row
    frames: _Integers  # i64[N], from 1
    values: _Integers  # i64[N, V]
    reports: tuple[VideoReport, ...]
    left_out: tuple[str, ...]  # inputs that the template does not list
    empty_label: _Integers | None  # i64[V], label of videos without any face; None: no such video

    def rows(self) -> Iterator[tuple[str, int, list[int]]]:
        """Yields video, frame and integers of each row."""
        return zip(self.videos, self.frames.tolist(), self.values.tolist(), strict=True)


def label_videos(
    films: Mapping[str, Film], *, labels: Labels, config: WriteConfig, template: Template | None
) -> Submission:
    """Label every frame of the template, or, without one, every frame of every film.

    Raises DataError if videos of the template are missing, a film's length differs too much, or no frame of any video
    has a face; ConfigError for an unknown class, and for smoothing without times.
    """
    fixed = None if config.no_face in _FILLS else parse_class(config.no_face, track=labels.track)
    empty = None if config.empty == "most-common" else parse_class(config.empty, track=labels.track)
    wanted = _wanted(films, template=template)
    chosen = _choose(films, videos=list(wanted), config=config)
    parts: dict[str, _Integers | None] = {}  # i64[rows, V]; None: no face in the video
    reports = []
    for video, frames in wanted.items():
        film = chosen[video]
        sources, known = _frames_of(film, frames, config=config, has_template=template is not None, video=video)
        by_frame = _label_film(film, labels=labels, config=config, fixed=fixed)
        parts[video] = None if by_frame is None else _labels_at(by_frame, sources, known=known, fixed=fixed)
        reports.append(_report(video, film, frames=frames, sources=sources, has_template=template is not None))
    is_empty = any(part is None for part in parts.values())
    if is_empty and empty is None:
        empty = _most_common([part for part in parts.values() if part is not None])
    values = {video: _fill_empty(part, empty, num_rows=len(wanted[video])) for video, part in parts.items()}
    videos, frames, ordered = _in_order(wanted, values, template=template)
    return Submission(
        videos=videos,
        frames=frames,
        values=ordered,
        reports=tuple(reports),
        left_out=tuple(video for video in films if video not in wanted and video not in map(_base, wanted)),
        empty_label=empty if is_empty else None,
    )


def _wanted(films: Mapping[str, Film], *, template: Template | None) -> dict[str, _Integers]:
    """The frames of each video to label, in the order of their rows."""
    if template is None:
        return {video: np.arange(1, film.num_frames + 1) for video, film in films.items()}
    videos = np.array(template.videos)
    return {video: template.frames[videos == video] for video in template.names}


def _base(video: str) -> str:
    return next((video.removesuffix(suffix) for suffix in _SIDES if video.endswith(suffix)), video)


def _choose(films: Mapping[str, Film], *, videos: list[str], config: WriteConfig) -> dict[str, Film]:
    """The film of each video; for `<film>_left` and `<film>_right` the faces of that side, as in Aff-Wild2."""
    chosen: dict[str, Film] = {}
    for video in videos:
        if video in films:
            chosen[video] = films[video]
        elif _base(video) in films:
            suffix = video.removeprefix(_base(video))
            chosen[video] = side_of(films[_base(video)], side="left" if suffix == "_left" else "right")
    missing = [video for video in videos if video not in chosen]
    if missing and not config.fill_missing:
        raise DataError(
            f"{len(missing)} video{'s' * (len(missing) != 1)} of the template {'are' if len(missing) != 1 else 'is'} "
            f"not among the inputs: {', '.join(missing[:12])}{' ...' if len(missing) > 12 else ''}; the inputs are "
            f"{', '.join(list(films)[:12])}{' ...' if len(films) > 12 else ''}. Name each file after its video, or "
            f"map names with --names; --fill-missing labels missing videos anyway"
        )
    for video in missing:
        chosen[video] = empty_film(video, num_frames=0)
    return chosen


def _frames_of(
    film: Film, frames: _Integers, *, config: WriteConfig, has_template: bool, video: str
) -> tuple[_Integers, npt.NDArray[np.bool_]]:
    """The film's frame for each wanted one, and whether it is one that exists.

    Pictures carry their numbers in their names and a missing one is a frame without a face, so they need no alignment.
    """
    if not has_template or not film.num_frames:
        return frames, np.full(len(frames), bool(film.num_frames))
    if film.is_pictures:
        return np.minimum(frames, film.num_frames), frames <= film.num_frames
    aligned = align_frames(
        frames, num_frames=film.num_frames, way=config.align, tolerance=config.tolerance, name=f"video {video}"
    )
    return aligned, np.ones(len(frames), np.bool_)


def _label_film(film: Film, *, labels: Labels, config: WriteConfig, fixed: _Integers | None) -> _Integers | None:
    """Labels i64[num_frames, V] of every frame; None if no frame has a face."""
    values, known = merge_faces(film, labels.values(film), several=config.several_faces)
    if not known.any():
        return None
    indices = np.arange(film.num_frames) if fixed is None else np.flatnonzero(known)
    if fixed is None:
        values = fill_frames(values, known, how="nearest" if config.no_face == "nearest" else "interpolate")
    values = values[indices]
    if config.smooth:
        values = smooth(_times(film, frame_rate=config.frame_rate)[indices], values, window_s=config.smooth)
    decided = labels.decide(values)
    if fixed is None:
        return decided
    filled = np.tile(fixed, (film.num_frames, 1))
    filled[indices] = decided
    return filled


def _times(film: Film, *, frame_rate: float | None) -> npt.NDArray[np.float64]:
    """Ascending times f64[num_frames] in seconds; unknown ones are interpolated. Raises ConfigError."""
    if frame_rate is not None:
        return np.arange(film.num_frames) / frame_rate
    known = np.flatnonzero(~np.isnan(film.times_s))
    if len(known) < min(2, film.num_frames):
        raise ConfigError(
            f"{film.name} has no times, which smoothing needs: give the frame rate, such as --frame-rate 30"
        )
    return np.maximum.accumulate(np.interp(np.arange(film.num_frames), known, film.times_s[known]))


def _labels_at(
    by_frame: _Integers, sources: _Integers, *, known: npt.NDArray[np.bool_], fixed: _Integers | None
) -> _Integers:
    """Labels of the frames `sources`; where the film has no such frame, its last label or the fixed one."""
    values = by_frame[sources - 1]
    if fixed is not None:
        values[~known] = fixed
    return values


def _report(video: str, film: Film, *, frames: _Integers, sources: _Integers, has_template: bool) -> VideoReport:
    faces = np.bincount(film.frames, minlength=film.num_frames + 1)
    with_face = int(np.count_nonzero(faces))
    return VideoReport(
        video=video,
        rows=len(frames),
        film_frames=film.num_frames,
        template_frames=int(frames.max()) if has_template else None,
        with_face=with_face,
        no_face=film.num_frames - with_face,
        unreadable=film.num_unreadable,
        several_faces=int(np.count_nonzero(faces > 1)),
        moved=int(np.count_nonzero(sources != frames)) if film.num_frames else 0,
    )


def _most_common(parts: list[_Integers]) -> _Integers:
    """The most frequent integer of each column, i64[V]; ties go to the lowest. Raises DataError without parts."""
    if not parts:
        raise DataError(
            "no video has a frame with a face, so there is no label to fill in: name one with --empty CLASS"
        )
    together = np.concatenate(parts)
    return np.array([np.bincount(column).argmax() for column in together.T], np.int64)


def _fill_empty(part: _Integers | None, empty: _Integers | None, *, num_rows: int) -> _Integers:
    if part is not None:
        return part
    assert empty is not None
    return np.tile(empty, (num_rows, 1))


def _in_order(
    wanted: Mapping[str, _Integers], values: Mapping[str, _Integers], *, template: Template | None
) -> tuple[tuple[str, ...], _Integers, _Integers]:
    """Videos, frames and labels of all rows, video by video, or in the template's order."""
    together = np.concatenate([values[video] for video in wanted])
    frames = np.concatenate(list(wanted.values()))
    videos = [video for video, own in wanted.items() for _ in range(len(own))]
    if template is not None:
        names = np.array(template.videos)
        rows = np.concatenate([np.flatnonzero(names == video) for video in wanted])  # of the template
        together, frames = together[np.argsort(rows)], template.frames
        videos = list(template.videos)
    return tuple(videos), frames, together
