"""Finds all faults of a submission file, with their lines.

A submission cannot be withdrawn, and the organisers' program reports little. So the format is checked byte by byte, and
the rows (line, video, frame) for consistency and against the organisers' template or, without it, the known videos and
number of frames of the challenge.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from femae.abaw.label_file import (
    CE_ROWS,
    CE_VIDEOS,
    TRACKS,
    Template,
    Track,
    TrackName,
    file_lines,
    location,
    parse_location,
    track_of,
)

__all__ = [
    "KINDS",
    "Checked",
    "Fault",
    "check_against_challenge",
    "check_against_template",
    "check_file",
    "check_sequence",
]

KINDS: Final = (
    *("header", "line end", "blank line", "encoding", "path", "digits", "values", "label", "duplicate", "order", "gap"),
    *("missing rows", "extra rows", "missing video", "extra video", "row count"),
)
_BOM: Final = b"\xef\xbb\xbf"
_MAX_SHOWN: Final = 60  # characters of a line in a message
Row = tuple[int, str, int]
Found = tuple[int, str, str]


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Fault:
    """One fault of a file."""

    line: int  # from 1
    kind: str  # one of KINDS
    text: str  # a sentence


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    """The result of checking a file."""

    track: Track
    faults: tuple[Fault, ...]  # by line
    num_rows: int  # rows with a valid frame
    num_videos: int
    values: npt.NDArray[np.int64]  # i64[R, V] of the rows with valid labels


def check_file(
    path: Path, *, template: Template | None = None, track: TrackName | None = None, any_videos: bool = False
) -> Checked:
    """Check a file of `track` (None: guessed from its header, or else from the number of values in a row).

    any_videos: without a template, do not expect the 56 videos of the CE challenge. Raises InputError.
    """
    lines = file_lines(path)
    expected = TRACKS[track or _guess_track(lines)]
    faults: list[Fault] = list(_check_header(lines, expected))
    rows: list[tuple[int, str, int]] = []  # line, video, frame
    values: list[list[int]] = []
    for number, raw in enumerate(lines, start=1):
        faults += _check_line_end(number, raw, is_last=number == len(lines))
        if number == 1:
            continue
        text, row_faults = _text_of(number, raw)
        faults += row_faults
        if text is None:
            continue
        where, *cells = text.split(",")
        found = parse_location(where)
        if found is None or found[1] < 1:
            faults.append(Fault(line=number, kind="path", text=_wrong_path(where)))
        else:
            rows.append((number, found[0], found[1]))
            if not found[2]:
                faults.append(_wrong_digits(number, where, found[1]))
        labels, label_faults = _check_values(number, cells, expected)
        faults += label_faults
        if labels is not None:
            values.append(labels)
    last_line = max(len(lines), 1)
    checks = [check_sequence(rows, template=template)]
    if template is not None:
        checks.append(check_against_template(rows, template=template, last_line=last_line))
    elif expected.name == "ce" and not any_videos:
        checks.append(check_against_challenge(rows, last_line=last_line))
    faults += (Fault(line=line, kind=kind, text=text) for check in checks for line, kind, text in check)
    return Checked(
        track=expected,
        faults=tuple(sorted(faults)),
        num_rows=len(rows),
        num_videos=len({video for _, video, _ in rows}),
        values=np.array(values, np.int64).reshape(-1, expected.num_values),
    )


def _guess_track(lines: Sequence[bytes]) -> TrackName:
    found = track_of(lines[0].decode("utf-8", "replace").strip()) if lines else None
    if found is not None:
        return found
    widths = [line.count(b",") for line in lines[1:200]]
    return "au" if widths and np.median(widths) > 6 else "ce"


def _check_header(lines: Sequence[bytes], track: Track) -> Iterator[Fault]:
    text = lines[0].rstrip(b"\r\n") if lines else b""
    if text == track.header.encode():
        return
    shown = _short(text.decode("utf-8", "replace"))
    if not lines:
        reason = "the file is empty"
    elif text.startswith(_BOM):
        reason = "a byte-order mark precedes the header; save the file as UTF-8 without one"
    elif parse_location(text.decode("utf-8", "replace").partition(",")[0]) is not None:
        reason = f"'{shown}' is a row; the header is missing"
    else:
        reason = f"'{shown}' is not the header"
    yield Fault(line=1, kind="header", text=f"{reason}; expected {track.header}")


def _check_line_end(number: int, raw: bytes, *, is_last: bool) -> Iterator[Fault]:
    if raw.endswith(b"\r\n"):
        yield Fault(line=number, kind="line end", text="the line ends as on Windows (CR LF); expected a line feed")
    elif raw.endswith(b"\r"):
        yield Fault(line=number, kind="line end", text="the line ends in a carriage return; expected a line feed")
    elif not raw.endswith(b"\n"):
        assert is_last
        yield Fault(
            line=number,
            kind="line end",
            text="the last line does not end in a line feed: the file may have been cut short",
        )


def _text_of(number: int, raw: bytes) -> tuple[str | None, list[Fault]]:
    """The row as text without its line end, None for a blank line; and its faults."""
    text = raw.rstrip(b"\r\n")
    if not text.strip():
        return None, [Fault(line=number, kind="blank line", text="the line is blank")]
    try:
        return text.decode("ascii"), []
    except UnicodeDecodeError:
        shown = text.decode("utf-8", "replace")
        return shown, [
            Fault(line=number, kind="encoding", text=f"'{_short(shown)}' has characters other than plain ASCII")
        ]


def _wrong_path(where: str) -> str:
    return f"'{_short(where)}' is not a frame; expected VIDEO/NUMBER.jpg, such as 01/00001.jpg, without spaces"


def _wrong_digits(number: int, where: str, frame: int) -> Fault:
    video = where.partition("/")[0]
    text = f"'{_short(where)}' has the wrong number of digits; expected {video}/{frame:05d}.jpg"
    return Fault(line=number, kind="digits", text=text)


def _check_values(number: int, cells: Sequence[str], track: Track) -> tuple[list[int] | None, list[Fault]]:
    """The integers of a row; None, with the faults, if any is invalid."""
    if len(cells) != track.num_values:
        text = f"{len(cells)} value{'s' * (len(cells) != 1)} after the frame; expected {track.num_values}"
        return None, [Fault(line=number, kind="values", text=text)]
    allowed = {str(level): level for level in range(track.num_levels)}
    wrong = [cell for cell in cells if cell not in allowed]
    if wrong:
        shown = f"'{_short(wrong[0])}' is not a label" if wrong[0].strip() else "the label is missing"
        text = f"{shown}; expected an integer from 0 to {track.num_levels - 1}, written without spaces"
        return None, [Fault(line=number, kind="label", text=text)]
    return [allowed[cell] for cell in cells], []


def _short(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}..."


def check_sequence(rows: Sequence[Row], *, template: Template | None) -> Iterator[Found]:
    """Yields duplicates; without a template also gaps, and frames and videos out of order.

    check_against_template checks the order if there is a template.
    """
    first_line: dict[tuple[str, int], int] = {}
    ended: dict[str, int] = {}  # video: line of its last row so far
    before: tuple[str, int] | None = None
    for line, video, frame in rows:
        where = location(video, frame)
        earlier = first_line.setdefault((video, frame), line)
        if earlier != line:
            yield line, "duplicate", f"{where} is already on line {earlier}"
            continue  # compare the next row with the one before this
        if template is None:
            if before is not None and before[0] != video and video in ended:
                yield line, "order", f"video {video} appears again; its rows ended on line {ended[video]}"
            else:
                expected = before[1] + 1 if before is not None and before[0] == video else 1
                if frame < expected:
                    yield line, "order", f"{where} comes after {location(video, expected - 1)}"
                elif frame > expected:
                    yield line, "gap", f"{_range(video, expected, frame - 1)} missing before {where}"
        before = (video, frame)
        ended[video] = line


def check_against_template(rows: Sequence[Row], *, template: Template, last_line: int) -> Iterator[Found]:
    """Yields missing and extra videos and rows, and the first row out of order."""
    listed = dict.fromkeys(zip(template.videos, template.frames.tolist(), strict=True))
    line_of = {(video, frame): line for line, video, frame in reversed(rows)}
    named = {video for _, video, _ in rows}
    names = set(template.videos)
    for video in dict.fromkeys(video for _, video, _ in rows if video not in names):
        own = [line for line, other, _ in rows if other == video]
        yield own[0], "extra video", f"video {video} is not in the template ({len(own)} rows)"
    for video in template.names:
        if video not in named:
            yield last_line, "missing video", f"video {video} of the template is missing"
    for _, row_group in groupby(enumerate(rows), key=lambda item: (item[1][1:] in listed, item[1][1])):
        group = [row for _, row in row_group]
        _, video, _ = group[0]
        if video in names and group[0][1:] not in listed:
            text = f"{_listed(video, [frame for _, _, frame in group])} not in the template"
            yield group[0][0], "extra rows", text
    yield from _missing_rows(listed, line_of=line_of, named=named)
    yield from _order(rows, list(listed), line_of=line_of)


def check_against_challenge(rows: Sequence[Row], *, last_line: int) -> Iterator[Found]:
    """Yields videos that are not in the challenge, missing ones, and a wrong number of rows."""
    first_line = {video: line for line, video, _ in reversed(rows)}
    for video, line in first_line.items():
        if video not in CE_VIDEOS:
            yield line, "extra video", f"video {video} is not one of {CE_VIDEOS[0]} to {CE_VIDEOS[-1]}"
    for video in CE_VIDEOS:
        if video not in first_line:
            yield last_line, "missing video", f"video {video} of the challenge is missing"
    if len(rows) != CE_ROWS:
        text = f"{len(rows):,} rows; the challenge lists {CE_ROWS:,} frames"
        yield last_line, "row count", f"{text}: align the frames to its template (`femae abaw ce --template FILE`)"


def _missing_rows(
    listed: dict[tuple[str, int], None], *, line_of: dict[tuple[str, int], int], named: set[str]
) -> Iterator[Found]:
    """Yields each run of missing template rows of a video, with the line after which it belongs."""
    line = 1
    for (is_present, video), run in groupby(listed, key=lambda row: (row in line_of, row[0])):
        frames = [frame for _, frame in run]
        if is_present:
            line = line_of[video, frames[-1]]
        elif video in named:
            yield line, "missing rows", f"{_listed(video, frames)} missing after this line"


def _order(
    rows: Sequence[Row], listed: list[tuple[str, int]], *, line_of: dict[tuple[str, int], int]
) -> Iterator[Found]:
    """Yields the first row that differs from the template's order, ignoring missing and extra rows."""
    wanted = set(listed)
    expected = [row for row in listed if row in line_of]
    found = list(dict.fromkeys((video, frame) for _, video, frame in rows if (video, frame) in wanted))
    for (video, frame), actual in zip(expected, found, strict=True):
        if (video, frame) != actual:
            text = f"{location(*actual)} is where the template has {location(video, frame)}"
            yield line_of[actual], "order", f"{text}; keep the template's order"
            return


def _range(video: str, first: int, last: int) -> str:
    """`01/00004.jpg is`, `01/00004.jpg to 01/00009.jpg are`."""
    if first == last:
        return f"{location(video, first)} is"
    return f"{location(video, first)} to {location(video, last)} (frames {first} to {last}) are"


def _listed(video: str, frames: Sequence[int]) -> str:
    if len(frames) == 1:
        return f"{location(video, frames[0])} is"
    return f"{location(video, frames[0])} to {location(video, frames[-1])} ({len(frames)} rows) are"
