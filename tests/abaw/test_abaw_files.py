"""Headers, integers, reading and writing of label files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from femae.abaw.label_file import (
    CE_ROWS,
    CE_VIDEOS,
    TRACKS,
    location,
    parse_location,
    read_labels,
    read_template,
    track_of,
    write_labels,
)
from femae.abaw.labelling import parse_class, parse_thresholds
from femae.errors import ConfigError, DataError, InputError, LabelError, OutputError

CE_HEADER = (
    "image_location,Fearfully_Surprised,Happily_Surprised,Sadly_Surprised,Disgustedly_Surprised,Angrily_Surprised,"
    "Sadly_Fearful,Sadly_Angry"
)
EXPR_HEADER = "image_location,Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other"
AU_HEADER = "image_location,AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26"


def test_the_published_headers_and_integers() -> None:
    assert TRACKS["ce"].header == CE_HEADER
    assert TRACKS["expr"].header == EXPR_HEADER
    assert TRACKS["au"].header == AU_HEADER
    assert list(enumerate(TRACKS["ce"].classes)) == [
        (0, "Fearfully Surprised"),
        (1, "Happily Surprised"),
        (2, "Sadly Surprised"),
        (3, "Disgustedly Surprised"),
        (4, "Angrily Surprised"),
        (5, "Sadly Fearful"),
        (6, "Sadly Angry"),
    ]
    assert (CE_VIDEOS[0], CE_VIDEOS[-1], len(CE_VIDEOS), CE_ROWS) == ("01", "56", 56, 26145)
    assert [track_of(header) for header in (CE_HEADER, EXPR_HEADER, AU_HEADER, "x")] == ["ce", "expr", "au", None]


def test_locations() -> None:
    assert location("01", 1) == "01/00001.jpg"
    assert location("a-b_left", 123456) == "a-b_left/123456.jpg"
    assert parse_location("01/00001.jpg") == ("01", 1, True)
    for text in ("01/1.jpg", "01/000001.jpg", "01/00000.jpg"):
        found = parse_location(text)
        assert found is not None and not found[2]
    for text in (
        "01/00001.png",
        "01\\00001.jpg",
        "/00001.jpg",
        "a/b/00001.jpg",
        " 01/00001.jpg",
        "01/.jpg",
        "",
        "٣/00001.jpg ",
    ):
        assert parse_location(text) is None


def test_a_file_is_written_byte_by_byte_as_published(tmp_path: Path) -> None:
    out = tmp_path / "new" / "predictions.txt"
    rows = [("01", 1, [3]), ("01", 2, [0]), ("02", 1, [6])]
    assert write_labels(out, rows, track=TRACKS["ce"]) == 3
    assert out.read_bytes() == f"{CE_HEADER}\n01/00001.jpg,3\n01/00002.jpg,0\n02/00001.jpg,6\n".encode()
    assert [path.name for path in out.parent.iterdir()] == ["predictions.txt"]
    read = read_labels(out)
    assert read.track.name == "ce" and read.values.tolist() == [[3], [0], [6]]
    units = [0, 1] * 6
    write_labels(out, [("v_left", 7, units)], track=TRACKS["au"])
    assert out.read_bytes() == f"{AU_HEADER}\nv_left/00007.jpg,0,1,0,1,0,1,0,1,0,1,0,1\n".encode()


def test_nothing_is_left_where_writing_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=r"cannot write .*--out"):
        write_labels(tmp_path / "file" / "p.txt", [("01", 1, [1])], track=TRACKS["ce"])

    def rows() -> Any:
        yield "01", 1, [1]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_labels(tmp_path / "p.txt", rows(), track=TRACKS["ce"])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("row", ["{0},", "{0}", "{0},3", "{0},\r", " {0} ,"])
def test_templates_with_and_without_labels(tmp_path: Path, row: str) -> None:
    path = tmp_path / "t.txt"
    locations = ["02/00001.jpg", "02/00002.jpg", "01/00004.jpg"]
    path.write_bytes("\n".join([CE_HEADER, *(row.format(where) for where in locations)]).encode())
    template = read_template(path)
    assert template.locations == locations
    assert template.names == ("02", "01")
    assert template.lines.tolist() == [2, 3, 4]
    path.write_bytes("\n".join(locations).encode())  # no header
    assert read_template(path).locations == locations


def test_wrong_templates_are_refused_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    for text, words in (
        ("h\n01/00001.jpg\nfoo/bar\n", "line 3: 'foo/bar'"),
        ("h\n01/00001.jpg\n01/00001.jpg,\n", "line 3: 01/00001.jpg is already listed on line 2"),
        ("h\n", "lists no frames"),
        ("h\n01/00000.jpg\n", "line 2"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=words):
            read_template(path)
    with pytest.raises(InputError, match="check the name"):
        read_template(tmp_path / "none.txt")


def test_wrong_label_files_are_refused_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "l.txt"
    for rows, words in (
        ("01/00001.jpg,7\n", "line 2: 7 is out of range; expected 0 to 6"),
        ("01/00001.jpg,\n", "line 2: '' is not an integer"),
        ("01/00001.jpg,1,2\n", "line 2: 2 values"),
        ("01/00001.jpg,1\n01/00001.jpg,1\n", "line 3: .*second time"),
        ("x,1\n", "line 2: 'x' is not a frame"),
        ("", "no rows"),
    ):
        path.write_text(f"{CE_HEADER}\n{rows}")
        with pytest.raises(DataError, match=words):
            read_labels(path)
    with pytest.raises(DataError, match=r"line 1: .* is not image_location,AU1"):
        read_labels(path, track="au")
    path.write_text(f"{CE_HEADER}\n01/00001.jpg,-1\n01/00002.jpg,7\n01/00003.jpg,6\n")
    assert read_labels(path, other_is_unknown=True).values[:, 0].tolist() == [-1, -1, 6]


def test_classes_by_number_and_name() -> None:
    for text in ("6", "Sadly Angry", "sadly_angry"):
        assert parse_class(text, track=TRACKS["ce"]).tolist() == [6]
    assert parse_class("neutral", track=TRACKS["expr"]).tolist() == [0]
    assert parse_class("1", track=TRACKS["au"]).tolist() == [1] * 12
    with pytest.raises(ConfigError, match=r"did you mean 'sadly angry'\? the classes are 0 Fearfully Surprised"):
        parse_class("sadly angy", track=TRACKS["ce"])
    for text, track in (("7", "ce"), ("-1", "ce"), ("8", "expr"), ("2", "au"), ("AU1", "au")):
        with pytest.raises(ConfigError, match="is not a class"):
            parse_class(text, track=TRACKS[track])  # type: ignore[index]


def test_thresholds_of_single_units() -> None:
    expected = np.full(12, 0.5, np.float32)
    expected[0], expected[7] = 0.25, 0.75
    np.testing.assert_array_equal(parse_thresholds("AU1=0.25,au15=0.75", default=0.5), expected)
    for text in ("AU05=0.3", "AU1=0.3,AU01=0.4", "AU1", "AU1=2"):
        with pytest.raises(ConfigError, match="is not a threshold"):
            parse_thresholds(text, default=0.5)
    with pytest.raises(LabelError):
        parse_thresholds("smile=0.3", default=0.5)
