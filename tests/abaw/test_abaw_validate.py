"""The validator finds each kind of fault on its line, and none in a correct file."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from femae.abaw.label_file import CE_ROWS, CE_VIDEOS, TRACKS, TrackName, read_template, write_labels
from femae.abaw.validate import KINDS, check_file
from femae.cli import main

LENGTHS = {"02": 4, "01": 6, "a-b_left": 5}


def rows_of(track: TrackName, lengths: dict[str, int] = LENGTHS) -> list[tuple[str, int, list[int]]]:
    kind = TRACKS[track]
    return [
        (video, frame, [(frame + unit) % kind.num_levels for unit in range(kind.num_values)])
        for video, length in lengths.items()
        for frame in range(1, length + 1)
    ]


def lines_of(track: TrackName) -> list[bytes]:
    rows = [f"{v}/{f:05d}.jpg,{','.join(map(str, labels))}\n" for v, f, labels in rows_of(track)]
    return [f"{TRACKS[track].header}\n".encode(), *(row.encode() for row in rows)]


def found(path: Path, lines: list[bytes], *, template: bool = False, track: TrackName = "ce") -> set[tuple[int, str]]:
    path.write_bytes(b"".join(lines))
    given_template = None
    if template:
        (path.parent / "template.txt").write_bytes(b"".join(lines_of(track)))
        given_template = read_template(path.parent / "template.txt")
    checked = check_file(path, template=given_template, track=track, any_videos=True)
    assert all(fault.kind in KINDS and fault.text for fault in checked.faults)
    return {(fault.line, fault.kind) for fault in checked.faults}


@pytest.mark.parametrize("track", ["ce", "expr", "au"])
@pytest.mark.parametrize("template", [False, True])
def test_a_right_file_has_no_faults(tmp_path: Path, track: TrackName, template: bool) -> None:
    assert found(tmp_path / "p.txt", lines_of(track), template=template, track=track) == set()
    assert check_file(tmp_path / "p.txt", any_videos=True).track.name == track  # told by its header
    write_labels(tmp_path / "w.txt", rows_of(track), track=TRACKS[track])
    assert (tmp_path / "w.txt").read_bytes() == (tmp_path / "p.txt").read_bytes()


Mutation = Callable[[list[bytes], int], tuple[list[bytes], int]]  # lines, index -> lines, the faulty line's number


def on_line(change: Callable[[bytes], bytes]) -> Mutation:
    return lambda lines, at: ([*lines[:at], change(lines[at]), *lines[at + 1 :]], at + 1)


def swapped(lines: list[bytes], at: int) -> tuple[list[bytes], int]:
    """Swaps this line and the next; the first of them is the fault."""
    at = min(at, len(lines) - 2)
    return [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]], at + 1


def label_to(text: bytes) -> Mutation:
    return on_line(lambda line: line.partition(b",")[0] + b"," + text + b"\n")


LINE_MUTATIONS: list[tuple[str, Mutation]] = [
    ("line end", on_line(lambda line: line.replace(b"\n", b"\r\n"))),
    ("blank line", lambda lines, at: ([*lines[:at], b"\n", *lines[at:]], at + 1)),
    ("blank line", lambda lines, at: ([*lines[:at], b" \t\n", *lines[at:]], at + 1)),
    ("encoding", on_line(lambda line: line.replace(b".jpg", "é.jpg".encode()))),
    ("encoding", on_line(lambda line: line.replace(b"\n", b"\xff\n"))),
    ("path", on_line(lambda line: line.replace(b"/", b"\\"))),
    ("path", on_line(lambda line: line.replace(b".jpg", b".png"))),
    ("path", on_line(lambda line: b" " + line)),
    ("path", on_line(lambda line: b"data/" + line)),
    ("digits", on_line(lambda line: line.replace(b"/0", b"/"))),
    ("digits", on_line(lambda line: line.replace(b"/0", b"/00"))),
    ("values", on_line(lambda line: line.replace(b"\n", b",1\n"))),
    ("values", on_line(lambda line: line.partition(b",")[0] + b"\n")),
    ("values", on_line(lambda line: line.replace(b",", b";"))),
    ("label", label_to(b"7")),
    ("label", label_to(b"-1")),
    ("label", label_to(b"3.0")),
    ("label", label_to(b" 3")),
    ("label", label_to(b"03")),
    ("label", label_to(b"")),
    ("label", label_to(b"Sadly_Angry")),
    ("duplicate", lambda lines, at: ([*lines[: at + 1], lines[at], *lines[at + 1 :]], at + 2)),
    ("duplicate", lambda lines, at: ([*lines, lines[at]], len(lines) + 1)),
]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    mutation=st.sampled_from(LINE_MUTATIONS),
    at=st.integers(1, sum(LENGTHS.values())),
    template=st.booleans(),
)
def test_each_fault_is_found_on_its_line(
    tmp_path: Path, mutation: tuple[str, Mutation], at: int, template: bool
) -> None:
    kind, change = mutation
    lines, number = change(lines_of("ce"), at)
    got = found(tmp_path / "p.txt", lines, template=template)
    assert (number, kind) in got
    # A row with an invalid path causes a gap, but no other fault.
    follow = {"path", "encoding", "values", "missing rows", "gap"} | ({"label"} if kind == "encoding" else set())
    allowed = {kind} | (follow if kind in ("path", "encoding", "values") else set()) | {"missing video"}
    assert {what for _, what in got} <= allowed


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=st.integers(1, 15), count=st.integers(1, 3), template=st.booleans())
def test_missing_rows_are_named_where_they_are_missing(tmp_path: Path, first: int, count: int, template: bool) -> None:
    lines = lines_of("ce")
    del lines[first : first + count]
    got = found(tmp_path / "p.txt", lines, template=template)
    if template:
        assert (first, "missing rows") in got  # after this line
        assert {kind for _, kind in got} == {"missing rows"}
    else:  # a gap is found at the next row of the video, a missing end only with a template
        following = lines[first][:3] if first < len(lines) else b""
        of_same_video = bool(following) and following == lines_of("ce")[first + count - 1][:3]
        assert got == ({(first + 1, "gap")} if of_same_video else set())


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(1, 14), template=st.booleans())
def test_rows_in_another_order(tmp_path: Path, at: int, template: bool) -> None:
    lines, number = swapped(lines_of("ce"), at)
    got = found(tmp_path / "p.txt", lines, template=template)
    assert any(kind in ("order", "gap") for _, kind in got)
    if template:
        assert got == {(number, "order")}


def test_videos_and_rows_that_the_template_does_not_have(tmp_path: Path) -> None:
    lines = lines_of("ce")
    more = [*lines[:5], b"02/00005.jpg,1\n", b"02/00006.jpg,1\n", *lines[5:], b"99/00001.jpg,1\n", b"99/00002.jpg,1\n"]
    assert found(tmp_path / "p.txt", more, template=True) == {(6, "extra rows"), (len(more) - 1, "extra video")}
    fewer = [line for line in lines if not line.startswith(b"01/")]
    assert found(tmp_path / "p.txt", fewer, template=True) == {(len(fewer), "missing video")}


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        (b"", "header"),
        (b"\xef\xbb\xbf" + lines_of("ce")[0], "header"),
        (lines_of("ce")[0].replace(b"_", b" "), "header"),
        (lines_of("ce")[0].replace(b",F", b", F"), "header"),
        (lines_of("expr")[0], "header"),
        (lines_of("ce")[0].replace(b"\n", b"\r\n"), "line end"),
    ],
)
def test_a_wrong_header(tmp_path: Path, header: bytes, kind: str) -> None:
    assert (1, kind) in found(tmp_path / "p.txt", [header, *lines_of("ce")[1:]])


def test_a_file_cut_short_and_an_empty_one(tmp_path: Path) -> None:
    lines = lines_of("ce")
    assert found(tmp_path / "p.txt", [*lines[:-1], lines[-1].rstrip(b"\n")]) == {(len(lines), "line end")}
    assert found(tmp_path / "p.txt", []) == {(1, "header")}
    mac = [line.replace(b"\n", b"\r") for line in lines]
    assert found(tmp_path / "p.txt", mac) == {(number, "line end") for number in range(1, len(lines) + 1)}


def test_a_video_in_two_parts_and_frames_that_start_late(tmp_path: Path) -> None:
    lines = lines_of("ce")
    assert found(tmp_path / "p.txt", [lines[0], *lines[2:]]) == {(2, "gap")}
    parts = [*lines[:3], *lines[5:11], *lines[3:5], *lines[11:]]
    assert found(tmp_path / "p.txt", parts) == {(10, "order")}


@pytest.fixture(scope="module")
def challenge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as large as the challenge's: 56 videos, 26,145 rows."""
    lengths = dict.fromkeys(CE_VIDEOS, CE_ROWS // 56)
    lengths["56"] += CE_ROWS % 56
    path = tmp_path_factory.mktemp("challenge") / "predictions.txt"
    assert write_labels(path, rows_of("ce", lengths), track=TRACKS["ce"]) == CE_ROWS
    return path


def test_the_whole_challenge_passes_and_its_counts_are_said(
    challenge: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["abaw", "validate", str(challenge)]) == 0
    assert main(["abaw", "validate", str(challenge), "--template", str(challenge)]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == second
    assert "ce, 26,145 frames of 56 videos, no faults" in first
    counts = [int(count.replace(",", "")) for count in re.findall(r" ([\d,]+) \(\d+%\)", first)]
    assert len(counts) == 7
    assert sum(counts) == CE_ROWS


def test_without_a_template_the_challenge_is_expected(
    challenge: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = challenge.read_bytes().splitlines(keepends=True)
    path = tmp_path / "p.txt"
    kept = [line for line in lines if not line.startswith(b"33/")]
    path.write_bytes(b"".join([*kept, b"57/00001.jpg,1\n"]))
    assert main(["abaw", "validate", str(path)]) == 1
    said = capsys.readouterr().out
    assert f"line {len(kept) + 1}: extra video: video 57 is not one of 01 to 56" in said
    assert "missing video: video 33" in said
    assert "row count" in said and "26,145" in said
    assert main(["abaw", "validate", str(path), "--any-videos"]) == 0


def test_many_faults_of_one_kind_are_counted(
    challenge: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "p.txt"
    path.write_bytes(challenge.read_bytes().replace(b"\n", b"\r\n"))
    assert main(["abaw", "validate", str(path), "--limit", "3"]) == 1
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 5 and out[0].startswith(f"{path}, line 1: line end")
    assert out[3] == "... and 26,143 more: line end (--limit N shows more)"
    assert out[4].endswith("ce, 26,146 faults: line end 26,146")


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["abaw", "validate", str(tmp_path / "none.txt")]) == 1
    assert "cannot read" in capsys.readouterr().err
