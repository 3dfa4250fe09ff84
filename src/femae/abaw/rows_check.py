"""Whether the rows of a file are the right ones in the right order: by themselves, by the template, by the challenge.

A row is (line, video, frame); a fault is (line, kind, sentence).
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

from femae.abaw.label_file import Template
from femae.abaw.tracks import CE_ROWS, CE_VIDEOS, location

__all__ = ["check_against_challenge", "check_against_template", "check_sequence"]

Row = tuple[int, str, int]
Found = tuple[int, str, str]


def check_sequence(rows: Sequence[Row], *, template: Template | None) -> Iterator[Found]:
    """Duplicates always; without a template also gaps, and frames and videos that do not ascend.

    With a template its order counts: see check_against_template.
    """
    first_line: dict[tuple[str, int], int] = {}
    ended: dict[str, int] = {}  # video: line of its last row so far
    before: tuple[str, int] | None = None
    for line, video, frame in rows:
        where = location(video, frame)
        earlier = first_line.setdefault((video, frame), line)
        if earlier != line:
            yield line, "duplicate", f"{where} stands on line {earlier} already"
            continue  # the next row goes on from the one before this
        if template is None:
            if before is not None and before[0] != video and video in ended:
                yield line, "order", f"video {video} comes again; its rows ended on line {ended[video]}"
            else:
                expected = before[1] + 1 if before is not None and before[0] == video else 1
                if frame < expected:
                    yield line, "order", f"{where} comes after {location(video, expected - 1)}"
                elif frame > expected:
                    yield line, "gap", f"{_range(video, expected, frame - 1)} missing before {where}"
        before = (video, frame)
        ended[video] = line


def check_against_template(rows: Sequence[Row], *, template: Template, last_line: int) -> Iterator[Found]:
    """Videos and rows that are missing or too many, and the first row that stands in another order."""
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
            what = f"{_listed(video, [frame for _, _, frame in group])} not in the template"
            yield group[0][0], "extra rows", what
    yield from _missing_rows(listed, line_of=line_of, named=named)
    yield from _order(rows, list(listed), line_of=line_of)


def check_against_challenge(rows: Sequence[Row], *, last_line: int) -> Iterator[Found]:
    """The 56 videos of the compound-expression challenge, and the number of rows its template has."""
    first_line = {video: line for line, video, _ in reversed(rows)}
    for video, line in first_line.items():
        if video not in CE_VIDEOS:
            yield line, "extra video", f"video {video} is none of {CE_VIDEOS[0]} to {CE_VIDEOS[-1]}"
    for video in CE_VIDEOS:
        if video not in first_line:
            yield last_line, "missing video", f"video {video} of the challenge is missing"
    if len(rows) != CE_ROWS:
        what = f"{len(rows):,} rows; the challenge lists {CE_ROWS:,} frames"
        yield last_line, "row count", f"{what}: align the frames to its template (`femae abaw ce --template FILE`)"


def _missing_rows(
    listed: dict[tuple[str, int], None], *, line_of: dict[tuple[str, int], int], named: set[str]
) -> Iterator[Found]:
    """Template rows that a video lacks, run by run; the line is the one after which they should stand."""
    line = 1
    for (is_there, video), run in groupby(listed, key=lambda row: (row in line_of, row[0])):
        frames = [frame for _, frame in run]
        if is_there:
            line = line_of[video, frames[-1]]
        elif video in named:
            yield line, "missing rows", f"{_listed(video, frames)} missing after this line"


def _order(
    rows: Sequence[Row], listed: list[tuple[str, int]], *, line_of: dict[tuple[str, int], int]
) -> Iterator[Found]:
    """The first row that is not the template's next one, missing and extra rows passed over."""
    wanted = set(listed)
    expected = [row for row in listed if row in line_of]
    found = list(dict.fromkeys((video, frame) for _, video, frame in rows if (video, frame) in wanted))
    for (video, frame), here in zip(expected, found, strict=True):
        if (video, frame) != here:
            what = f"{location(*here)} stands where the template has {location(video, frame)}"
            yield line_of[here], "order", f"{what}; keep the template's order"
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
