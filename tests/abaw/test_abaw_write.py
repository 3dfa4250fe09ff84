"""Label files of the three tracks from tables, films encoded here, and real clips."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from femae.abaw.label_file import read_labels
from femae.cli import main

PAIRS = [
    (1, 0),
    (3, 0),
    (4, 0),
    (2, 0),
    (5, 0),
    (4, 1),
    (4, 5),
]  # of surprise, fear, disgust, happiness, sadness, anger
HAPPY, SAD, ANGRY, NOTHING = [0.1, 0, 0, 0.9, 0, 0], [0.1, 0, 0, 0, 0.8, 0], [0, 0, 0.1, 0, 0.3, 0.8], [0.1] * 6
BOX = [10, 10, 50, 50]


def labels_of(path: Path) -> dict[str, list[int]]:
    """Video -> the first integer of each row, read without the package."""
    with path.open(newline="", encoding="ascii") as file:
        rows = list(csv.reader(file))[1:]
    videos: dict[str, list[int]] = {}
    for where, label, *_ in rows:
        videos.setdefault(where.split("/")[0], []).append(int(label))
    return videos


def abaw(*words: object) -> int:
    return main(["abaw", *(str(word) for word in words)])


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory, astronaut: np.ndarray, make_video: Any) -> Path:
    """Three films: 01 loses its face for a while, 02 has two faces, 03 has none."""
    folder = tmp_path_factory.mktemp("films")
    face = astronaut[20:276, 90:346]
    empty = np.full_like(face, 96)
    light = np.linspace(0.7, 1.2, 24)
    shown = [np.clip(face * share, 0, 255).astype(np.uint8) for share in light]
    make_video(folder / "01.mp4", [empty] * 3 + shown[:8] + [empty] * 5 + shown[8:14] + [empty] * 2)
    make_video(folder / "02.mp4", [np.hstack([one, one[:, ::-1] // 2]) for one in shown[:10]])
    make_video(folder / "03.mp4", [empty] * 7)
    return folder


@pytest.fixture(scope="module")
def film_tables(films: Path) -> Path:
    assert main(["predict", str(films), "--out", str(films / "out"), "--format", "parquet,csv,jsonl", "--quiet"]) == 0
    return films / "out"


def expected_of(parquet: Path) -> list[int]:
    """Largest sum over faces, linear interpolation, ends copied: independent of the package's code."""
    table = pq.read_table(parquet).to_pandas()
    num_frames = int(table.frame.max())
    scores = np.full((num_frames, 7), np.nan)
    for frame, rows in table[table.status == "ok"].groupby("frame"):
        probs = rows[["surprise", "fear", "disgust", "happiness", "sadness", "anger"]].to_numpy(np.float64)
        scores[frame - 1] = np.stack([probs[:, a] + probs[:, b] for a, b in PAIRS], axis=1).max(axis=0)
    known = np.flatnonzero(~np.isnan(scores[:, 0]))
    filled = [np.interp(np.arange(num_frames), known, scores[known, k]) for k in range(7)]
    return np.argmax(np.stack(filled, axis=1), axis=1).tolist()


def test_round_trip_of_films_with_a_template(
    films: Path, film_tables: Path, tmp_path: Path, write_template: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    template = write_template(tmp_path / "template.txt", {"02": 11, "03": 7, "01": 23})
    out, details = tmp_path / "out" / "predictions.txt", tmp_path / "details.csv"
    assert abaw("ce", films, "--template", template, "--out", out, "--details", details) == 0
    said = capsys.readouterr().out
    assert "41 frames of 3 videos" in said and "02 -1, 01 +1 (aligned by clip" in said
    assert "no face in 10 frames of 1 video: interpolated" in said
    assert "several faces in 10 frames of 1 video: max" in said
    assert "without any face: 03; labelled" in said
    labels = labels_of(out)
    first, second = expected_of(film_tables / "01.parquet"), expected_of(film_tables / "02.parquet")
    assert labels["01"] == first[:23] and len(first) == 24
    assert labels["02"] == [*second, second[-1]] and len(second) == 10
    assert labels["03"] == [np.bincount(labels["01"] + labels["02"]).argmax()] * 7
    assert list(labels) == ["02", "03", "01"]  # the template's order
    assert abaw("validate", out, "--template", template) == 0
    rows = {row["video"]: row for row in csv.DictReader(details.open())}
    assert [rows["01"][key] for key in ("rows", "film_frames", "no_face", "difference")] == ["23", "24", "10", "1"]
    assert [rows["02"][key] for key in ("several_faces", "moved", "with_face")] == ["10", "1", "10"]
    shifted = tmp_path / "shifted.txt"
    assert abaw("ce", film_tables, "--template", template, "--out", shifted, "--align", "shift", "--quiet") == 0
    assert labels_of(shifted)["01"] == first[1:]
    assert labels_of(shifted)["02"] == [second[0], *second]

    films_file = out.read_bytes()
    for suffix in ("parquet", "csv", "jsonl"):
        assert abaw("ce", *film_tables.glob(f"*.{suffix}"), "--template", template, "--out", out, "--quiet") == 0
        assert out.read_bytes() == films_file


def test_without_a_template_every_frame_of_every_film(film_tables: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.txt"
    assert abaw("ce", film_tables, "--out", out, "--quiet") == 0
    assert {video: len(labels) for video, labels in labels_of(out).items()} == {"01": 24, "02": 10, "03": 7}
    assert abaw("validate", out, "--any-videos") == 0


@pytest.fixture
def tables(tmp_path: Path, write_table: Callable[..., Path]) -> Path:
    """01: happy, gap of three frames, sad; 02: two people; 03: no face at all."""
    folder = tmp_path / "tables"
    one = [[(1, HAPPY, BOX)]] * 2 + ["no_face", "unreadable", "no_face"] + [[(1, ANGRY, BOX)]] * 2
    large, small = [0, 0, 60, 60], [100, 0, 130, 30]
    two = [[(1, SAD, large), (2, HAPPY, small)]] * 3 + [[(2, HAPPY, small)]] * 2
    write_table(folder / "01.csv", one)
    write_table(folder / "02.parquet", two)
    write_table(folder / "03.jsonl", ["no_face"] * 4)
    return folder


def test_choices_for_frames_without_a_face(tables: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.txt"

    def labels(*options: object) -> dict[str, list[int]]:
        assert abaw("ce", tables, "--out", out, "--quiet", *options) == 0
        return labels_of(out)

    assert labels()["01"] == [1, 1, 1, 6, 6, 6, 6]  # halfway: (.1 + .9) / 2 < (.3 + .8) / 2
    assert labels("--no-face", "nearest")["01"] == [1, 1, 1, 1, 6, 6, 6]
    assert labels("--no-face", "Sadly_Fearful")["01"] == [1, 1, 5, 5, 5, 6, 6]
    assert labels("--no-face", "0")["01"] == [1, 1, 0, 0, 0, 6, 6]
    assert labels()["03"] == [1, 1, 1, 1]
    assert labels("--empty", "4")["03"] == [4, 4, 4, 4]


def test_choices_for_a_film_of_another_length(tables: Path, tmp_path: Path, write_template: Any) -> None:
    out = tmp_path / "p.txt"
    expected = {
        ("clip", 6): [1, 1, 1, 6, 6, 6],
        ("clip", 8): [1, 1, 1, 6, 6, 6, 6, 6],
        ("shift", 6): [1, 1, 6, 6, 6, 6],
        ("shift", 8): [1, 1, 1, 1, 6, 6, 6, 6],
        ("nearest", 6): [1, 1, 1, 6, 6, 6],  # frames 1, 2, 3, 5, 6, 7
        ("nearest", 8): [1, 1, 1, 6, 6, 6, 6, 6],  # frames 1, 2, 3, 4, 4, 5, 6, 7
    }
    for (way, length), labels in expected.items():
        template = write_template(tmp_path / "t.txt", {"01": length})
        words = (tables / "01.csv", "--template", template, "--align", way, "--out", out, "--quiet")
        assert abaw("ce", *words) == 0
        assert labels_of(out)["01"] == labels, (way, length)


def test_choices_for_several_faces(tables: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.txt"
    expected = {"max": [1] * 5, "largest": [2, 2, 2, 1, 1], "track": [1] * 5, "mean": [1] * 5}
    for how, labels in expected.items():
        assert abaw("ce", tables, "--out", out, "--several-faces", how, "--quiet") == 0
        assert labels_of(out)["02"] == labels, how


def test_rule_weights_and_smoothing(tmp_path: Path, write_table: Callable[..., Path]) -> None:
    flicker = [[(1, SAD if frame == 5 else HAPPY, BOX)] for frame in range(1, 11)]
    table, out = write_table(tmp_path / "01.csv", flicker), tmp_path / "p.txt"

    def labels(*options: object) -> list[int]:
        assert abaw("ce", table, "--out", out, "--quiet", *options) == 0
        return labels_of(out)["01"]

    assert labels() == [1, 1, 1, 1, 2, 1, 1, 1, 1, 1]
    assert labels("--smooth", "0.2") == [1] * 10
    assert labels("--weights", "happiness=0,surprise=3") == [0, 0, 0, 0, 2, 0, 0, 0, 0, 0]
    assert labels("--rule", "product") == [1, 1, 1, 1, 2, 1, 1, 1, 1, 1]


def test_pictures_carry_their_numbers_in_their_names(
    tmp_path: Path, write_table: Callable[..., Path], write_template: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["00002.jpg", "00003.jpg", "00006.jpg"]
    frames = [[(1, HAPPY, BOX)], [(1, HAPPY, BOX)], [(1, ANGRY, BOX)]]
    table = write_table(tmp_path / "01.csv", frames, sources=names, rate=None)
    template, out = write_template(tmp_path / "t.txt", {"01": 9}), tmp_path / "p.txt"
    assert abaw("ce", table, "--template", template, "--out", out, "--no-face", "nearest") == 0
    assert labels_of(out)["01"] == [1, 1, 1, 1, 6, 6, 6, 6, 6]
    assert abaw("ce", table, "--template", template, "--out", out, "--no-face", "5", "--quiet") == 0
    assert labels_of(out)["01"] == [5, 1, 1, 5, 5, 6, 5, 5, 5]
    assert abaw("ce", table, "--out", out, "--smooth", "0.2") == 2
    assert "--frame-rate" in capsys.readouterr().err
    assert abaw("ce", table, "--out", out, "--smooth", "0.2", "--frame-rate", "30", "--quiet") == 0
    assert abaw("ce", table, "--out", out, "--several-faces", "track") == 2
    table = write_table(tmp_path / "02.csv", frames, sources=["a.jpg", "b.jpg", "c.jpg"], rate=None)
    assert abaw("ce", table, "--out", out) == 2
    assert "the name 'a.jpg' does not end in a frame number" in capsys.readouterr().err


def test_folders_of_face_pictures(tmp_path: Path, astronaut: np.ndarray, write_template: Any) -> None:
    folder = tmp_path / "cropped_aligned" / "film_left"
    folder.mkdir(parents=True)
    for number in (1, 2, 4):
        Image.fromarray(astronaut[60:190, 160:290]).resize((112, 112)).save(folder / f"{number:05d}.jpg")
    template, out = write_template(tmp_path / "t.txt", {"film_left": 5}), tmp_path / "p.txt"
    assert abaw("expr", folder, "--faces", "whole", "--template", template, "--out", out, "--quiet") == 0
    assert labels_of(out) == {"film_left": [4] * 5}  # she smiles
    assert abaw("validate", out, "--template", template) == 0


def test_expressions_and_action_units(
    tmp_path: Path, write_table: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    units = "AU01 AU02 AU04 AU06 AU07 AU10 AU12 AU15 AU17 AU23 AU24 AU25 AU26".split()
    frames = [[(1, NOTHING, BOX)], [(1, HAPPY, BOX)], "no_face", [(1, ANGRY, BOX)]]

    def au_probs(frame: int, face_id: int) -> list[float]:
        return [0.9 if number % 4 == frame % 4 else 0.2 for number in range(len(units))]

    table = write_table(tmp_path / "film.csv", frames, au_names=units, au_probs=au_probs)
    out = tmp_path / "p.txt"
    assert abaw("expr", table, "--out", out) == 0
    assert labels_of(out)["film"] == [0, 4, 0, 1]  # between .9 happiness and .8 anger neither reaches .5
    assert "Happiness 1 (25%)" in capsys.readouterr().out
    assert abaw("expr", table, "--out", out, "--neutral-below", "0", "--quiet") == 0
    assert labels_of(out)["film"] == [6, 4, 4, 1]
    assert abaw("au", table, "--out", out, "--no-face", "nearest") == 0
    rows = read_labels(out, track="au").values.tolist()
    kept = [number for number, unit in enumerate(units) if unit != "AU17"]
    assert rows == [[int(number % 4 == frame % 4) for number in kept] for frame in (1, 2, 2, 4)]
    assert abaw("validate", out) == 0
    assert abaw("au", table, "--out", out, "--threshold", "0.1", "--thresholds", "AU01=0.95", "--quiet") == 0
    assert read_labels(out).values[0].tolist() == [0] + [1] * 11
    plain = write_table(tmp_path / "plain.csv", frames)
    capsys.readouterr()
    assert abaw("au", plain, "--out", out) == 2
    assert "plain.csv has no action units; the AU track needs the columns AU01, AU02" in capsys.readouterr().err


def test_two_people_of_one_film(tmp_path: Path, write_table: Callable[..., Path], write_template: Any) -> None:
    left, right = [0, 0, 40, 40], [200, 0, 240, 40]
    table = write_table(tmp_path / "film.csv", [[(1, HAPPY, left), (2, ANGRY, right)], [(2, ANGRY, right)]])
    template = write_template(tmp_path / "t.txt", {"film_right": 2, "film_left": 2})
    assert abaw("expr", table, "--template", template, "--out", tmp_path / "p.txt", "--quiet") == 0
    assert labels_of(tmp_path / "p.txt") == {"film_right": [1, 1], "film_left": [4, 4]}


def test_videos_that_are_missing_too_many_or_named_otherwise(
    tables: Path, tmp_path: Path, write_template: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "p.txt"
    template = write_template(tmp_path / "t.txt", {"01": 7, "02": 5, "04": 3})
    assert abaw("ce", tables, "--template", template, "--out", out) == 2
    assert "1 video of the template is not among the inputs: 04" in capsys.readouterr().err
    assert not out.exists()
    assert abaw("ce", tables, "--template", template, "--out", out, "--fill-missing") == 0
    said = capsys.readouterr().out
    assert "not among the inputs: 04" in said and "not in the template, left out: 03" in said
    assert labels_of(out)["04"] == [1, 1, 1]
    names = tmp_path / "names.csv"
    names.write_text("03,04\n")
    template = write_template(tmp_path / "t.txt", {"01": 7, "02": 5, "04": 4})
    assert abaw("ce", tables, "--template", template, "--out", out, "--names", names, "--quiet") == 0
    (tables / "01.csv").rename(tables / "1.csv")  # 1 is found for 01
    assert abaw("ce", tables, "--template", template, "--out", out, "--names", names, "--quiet") == 0
    assert list(labels_of(out)) == ["01", "02", "04"]
    names.write_text("other,04\n")
    assert abaw("ce", tables, "--template", template, "--out", out, "--names", names) == 2
    assert "lists 'other'" in capsys.readouterr().err


def test_wrong_inputs_are_refused_and_nothing_is_written(
    tables: Path, tmp_path: Path, write_template: Any, write_table: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "p.txt"
    template = write_template(tmp_path / "t.txt", {"01": 12})
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "bad.parquet").write_bytes(b"no table")
    (tmp_path / "bad.jsonl").write_text("{no json\n")
    (tmp_path / "not.mp4").write_text("no film")
    spaced = write_table(tmp_path / "a clip.csv", [[(1, HAPPY, BOX)]])
    cases: list[tuple[list[object], int, str]] = [
        ([tables, "--template", template], 2, "video 01 has 7 frames and the template 12"),
        ([tmp_path / "bad.csv"], 2, "it has no column source"),
        ([tmp_path / "empty.csv"], 2, "not a table"),
        ([tmp_path / "bad.parquet"], 2, "not a table"),
        ([tmp_path / "bad.jsonl"], 2, "not a table"),
        ([tmp_path / "not.mp4"], 1, "not.mp4"),
        ([tmp_path / "none.csv"], 1, "does not exist"),
        ([tables, tables / "01.csv"], 2, "two inputs have the video name 01"),
        ([spaced], 2, "'a clip' cannot be the name of a video"),
        ([tables, "--no-face", "joy"], 2, "'joy' is not a class of ce"),
        ([tables, "--template", tmp_path / "none.txt"], 1, "cannot read"),
        ([tables / "03.jsonl"], 2, "no video has a frame with a face"),
        ([tables, "--weights", "joy=2"], 2, "no emotion 'joy'"),
    ]
    for words, status, sentence in cases:
        assert abaw("ce", *words, "--out", out) == status, words
        said = capsys.readouterr().err
        assert said.startswith("femae: ") and sentence in said and "Traceback" not in said
        assert not out.exists()
    assert abaw("ce", tables, "--template", template, "--out", out, "--tolerance", "5", "--fill-missing") == 0
    assert len(labels_of(out)["01"]) == 12


def test_jsonl_whose_first_rows_have_no_face(tmp_path: Path, write_table: Callable[..., Path]) -> None:
    table = write_table(tmp_path / "01.jsonl", ["no_face", "no_face", [(1, ANGRY, BOX)]])
    assert "null" in json.dumps(json.loads(table.read_text().splitlines()[0]))
    assert abaw("ce", table, "--out", tmp_path / "p.txt", "--quiet") == 0
    assert labels_of(tmp_path / "p.txt")["01"] == [6, 6, 6]


@pytest.mark.shared
def test_real_clips_as_the_challenge_would_have_them(
    shared_data: Path, tmp_path: Path, write_template: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = {"01": "man_smile.mp4", "02": "hard/two_faces.mp4", "03": "no_face.mp4"}
    with (shared_data / "videos" / "clips.csv").open(encoding="utf-8") as file:
        lengths = {row["file"]: int(row["frames"] or 0) for row in csv.DictReader(file)}
    for video, name in clips.items():
        source = shared_data / "videos" / name
        (tmp_path / f"{video}{source.suffix}").symlink_to(source)
    off = {"01": 1, "02": -1, "03": 0}
    wanted = {video: lengths[name] + off[video] for video, name in clips.items()}
    template, out = write_template(tmp_path / "template.txt", wanted), tmp_path / "predictions.txt"
    films = sorted(tmp_path.glob("0*.*"))
    assert main(["predict", *map(str, films), "--out", str(tmp_path / "t"), "--format", "parquet", "--quiet"]) == 0
    assert abaw("ce", tmp_path / "t", "--template", template, "--out", out) == 0
    assert "01 -1, 02 +1" in capsys.readouterr().out
    labels = labels_of(out)
    assert {video: len(own) for video, own in labels.items()} == wanted
    assert labels["02"] == expected_of(tmp_path / "t" / "02.parquet")[:-1]
    assert labels["01"] == [*expected_of(tmp_path / "t" / "01.parquet"), labels["01"][-1]]
    assert set(labels["01"][-15:]) == {1}  # the smile
    assert abaw("validate", out, "--template", template) == 0
    assert abaw("score", out, "--labels", out) == 0
