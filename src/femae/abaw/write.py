"""`femae abaw ce`, `expr` and `au`: write the label file from inputs and template, and print a summary."""

import csv
import sys
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

import numpy as np
import numpy.typing as npt

from femae.abaw.film import Film
from femae.abaw.inputs import find_inputs, name_videos, read_films
from femae.abaw.label_file import Track, read_template, write_labels
from femae.abaw.labelling import labels_of
from femae.abaw.submission import Submission, VideoReport, label_videos
from femae.config.abaw import WriteConfig
from femae.errors import OutputError
from femae.files import replacing
from femae.printing import print_lines

__all__ = ["class_shares", "run_write"]


def run_write(config: WriteConfig) -> int:
    """Write the file of a track. Returns 0, or 1 if a film was damaged (it is labelled nevertheless).

    Raises FemaeError if something cannot be read, aligned or written.
    """
    labels = labels_of(config)
    template = read_template(config.template) if config.template is not None else None
    inputs = find_inputs(config.inputs)
    videos = name_videos(inputs, known=template.names if template is not None else None, names=config.names)
    films: dict[str, Film] = {}
    damaged = 0
    for video, film, problems in read_films(videos, config=config):
        films[video] = film
        damaged += bool(problems)
        for problem in problems:
            sys.stderr.write(f"femae: {film.name}: {problem}\n")
    submission = label_videos(films, labels=labels, config=config, template=template)
    write_labels(config.out, submission.rows(), track=labels.track)
    if config.details is not None:
        write_details(config.details, submission.reports)
    if not config.quiet:
        print_lines(_lines(submission, track=labels.track, config=config))
    return 1 if damaged else 0


def write_details(path: Path, reports: Iterable[VideoReport]) -> None:
    """Write a CSV with a row per video. Raises OutputError."""
    names = [field.name for field in fields(VideoReport)]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([*names, "difference"])
            writer.writerows([*(getattr(report, name) for name in names), report.difference] for report in reports)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}; give another --details") from error


def class_shares(values: npt.NDArray[np.int64], *, track: Track) -> str:
    """Counts and shares of each class in i64[N, V]: `Fearfully Surprised 12 (3%), ...`; for AU of each unit's 1s."""
    if track.num_values > 1:
        counts = (values == 1).sum(axis=0)
    else:
        counts = np.bincount(values[values >= 0], minlength=track.num_levels)
    total = max(len(values), 1)
    return ", ".join(
        f"{name} {count:,} ({count / total:.0%})" for name, count in zip(track.classes, counts, strict=True)
    )


def _lines(submission: Submission, *, track: Track, config: WriteConfig) -> list[str]:
    """The printed summary: contents of the file, and what was filled in, aligned and left out."""
    reports = submission.reports
    lines = [f"{len(submission.videos):,} frames of {_videos(len(reports))} -> {config.out}"]
    lines.append(f"  {class_shares(submission.values, track=track)}")
    gaps = [report for report in reports if report.with_face and report.no_face]
    if gaps:
        done = config.no_face if config.no_face != "interpolate" else "interpolated"
        lines.append(f"  no face in {_frames(sum(report.no_face for report in gaps))} of {_videos(len(gaps))}: {done}")
    unreadable = [report for report in reports if report.unreadable]
    if unreadable:
        number = _frames(sum(report.unreadable for report in unreadable))
        lines.append(f"  of them unreadable: {number}: {_list(unreadable)}")
    several = [report for report in reports if report.several_faces]
    if several:
        number = _frames(sum(report.several_faces for report in several))
        lines.append(f"  several faces in {number} of {_videos(len(several))}: {config.several_faces}")
    odd = [f"{report.video} {report.difference:+d}" for report in reports if report.difference]
    if odd:
        moved = sum(report.moved for report in reports)
        way = f"aligned by {config.align}; rows with the label of another frame number: {moved:,}"
        lines.append(f"  of another length than the template: {', '.join(odd)} ({way})")
    missing = [report for report in reports if not report.film_frames]
    if missing:
        lines.append(f"  not among the inputs: {_list(missing)}")
    empty = [report for report in reports if not report.with_face]
    if empty:
        assert submission.empty_label is not None
        label = _label(submission.empty_label, track=track)
        lines.append(f"  without any face: {_list(empty)}; labelled {label} throughout ({config.empty})")
    if submission.left_out:
        lines.append(f"  not in the template, left out: {', '.join(submission.left_out)}")
    return lines


def _label(values: npt.NDArray[np.int64], *, track: Track) -> str:
    if track.num_values == 1:
        return track.classes[int(values[0])]
    present = [name for name, value in zip(track.classes, values, strict=True) if value]
    return " ".join(present) or "no unit"


def _videos(count: int) -> str:
    return f"{count:,} video{'s' * (count != 1)}"


def _frames(count: int) -> str:
    return f"{count:,} frame{'s' * (count != 1)}"


def _list(reports: list[VideoReport]) -> str:
    return ", ".join(report.video for report in reports)
