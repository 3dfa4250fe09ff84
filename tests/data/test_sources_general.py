"""A folder per class, tables, files of action units, and the catalog of all readers."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from femae.data.samples import VideoFrame
from femae.data.sources.au_files import AuFilesSource, action_unit_value
from femae.data.sources.base import LeftOut
from femae.data.sources.catalog import SOURCES, open_source, source_options
from femae.data.sources.folders import FolderPerClassSource
from femae.data.sources.table import TableSource
from femae.errors import ConfigError, DataError


def test_folder_names_are_labels_in_any_spelling(layouts: Any, collect: Any, tmp_path: Path) -> None:
    root = tmp_path / "mine"
    names = {
        "Happy": "happiness",
        "sadness": "sadness",
        "Fearfully_Surprised": "Fearfully Surprised",
        "anger+disgust": "Angrily Disgusted",
        "neutral": "neutral",
    }
    for folder in names:
        layouts.picture(root / folder / "deeper" / "ä 1.png")
    layouts.picture(root / "holidays" / "1.png")
    layouts.picture(root / "other" / "1.png")
    layouts.fake_picture(root / "Happy" / "2.jpg")
    layouts.fake_picture(root / "Happy" / "desktop.ini")
    samples, reading = collect(FolderPerClassSource(root))
    assert {key.split("/")[0]: sample.class_name for key, sample in samples.items()} == names
    assert samples["Happy/deeper/ä 1.png"].group == "folder/Happy/deeper/ä 1.png"
    assert reading.excluded == {
        "folder is not named by a class": 1,
        "file is not a picture": 1,
        "file of another kind": 1,
        "no known label (other)": 1,
    }


def test_numbered_folders_splits_and_subjects(layouts: Any, collect: Any, tmp_path: Path) -> None:
    root = tmp_path / "rafdb-of-the-web"
    for split in ("train", "valid"):
        for number in (1, 7, 8):
            layouts.picture(root / split / str(number) / f"S{number:03d}_{split}.jpg")
    layouts.picture(root / "train" / "1" / "anonymous.jpg")
    reader = FolderPerClassSource(root, order="raf-db-basic", subject=r"(S\d+)_", crops=True, name="mine")
    samples, reading = collect(reader)
    assert {key: (s.class_name, s.split, s.group) for key, s in samples.items()} == {
        "train/1/S001_train.jpg": ("surprise", "train", "mine/S001"),
        "train/7/S007_train.jpg": ("neutral", "train", "mine/S007"),
        "valid/1/S001_valid.jpg": ("surprise", "val", "mine/S001"),
        "valid/7/S007_valid.jpg": ("neutral", "val", "mine/S007"),
    }
    assert reading.excluded == {"folder is not named by a class": 2, "no subject in the path": 1}
    with pytest.raises(DataError, match="order of their numbers"):
        FolderPerClassSource(root)
    with pytest.raises(ConfigError, match="no order"):
        FolderPerClassSource(root, order="mine")
    for pattern in ("(", "S", "(a)(b)"):
        with pytest.raises(ConfigError):
            FolderPerClassSource(root, order="raf-db-basic", subject=pattern)


def test_table_with_labels_boxes_subjects_and_films(layouts: Any, collect: Any, tmp_path: Path, carphone: Path) -> None:
    layouts.picture(tmp_path / "p" / "a.png")
    (tmp_path / "p" / "film.mp4").write_bytes(carphone.read_bytes())
    blank: dict[str, object] = dict.fromkeys(("image", "frame", "emotion", "compound", "subject"), "")
    blank |= dict.fromkeys(("split", "x1", "y1", "x2", "y2"), "")
    rows = [
        {"image": "p/a.png", "emotion": "Joy", "subject": "müller", "split": "Train"},
        {"image": "p\\film.mp4", "frame": 3, "compound": "Sadly_Angry", "emotion": "sad"},
        {"image": "p/film.mp4", "frame": 4, "emotion": "fear+surprise", "x1": 1, "y1": 2, "x2": 30.5, "y2": 40},
        {"image": "p/film.mp4", "frame": 0, "emotion": "sad"},
        {"image": "p/film.mp4", "emotion": "sad"},
        {"image": "p/b.png", "emotion": "sad"},
        {"image": "p/gone.mp4", "frame": 1, "emotion": "sad"},
        {"image": "", "emotion": "sad"},
        {"image": "p/a.png", "emotion": "grumpy"},
        {"image": "p/a.png", "emotion": ""},
        {"image": "p/a.png", "emotion": "sad", "x1": 5, "y1": 5, "x2": 5, "y2": 9},
        {"image": "p/a.png", "emotion": "sad", "x1": "?", "y1": 5, "x2": 5, "y2": 9},
    ]
    path = layouts.table(tmp_path / "mine.csv", [blank | row for row in rows])
    path.write_bytes(path.read_bytes() + b"\r\n\r\np/a.png,1\r\n")
    samples, reading = collect(TableSource(path))
    assert list(samples) == ["p/a.png", "p/film.mp4#00003", "p/film.mp4#00004"]
    a, third, fourth = samples.values()
    assert (a.class_name, a.group, a.split) == ("happiness", "table/müller", "train")
    assert third.class_name == "Sadly Angry" and third.group == "table/p/film.mp4"
    assert third.picture == VideoFrame(path=tmp_path / "p" / "film.mp4", frame=3)
    assert fourth.class_name == "Fearfully Surprised" and fourth.box_xyxy == (1, 2, 30.5, 40)
    assert reading.excluded == {
        "frame of a film is not a number from 1": 2,
        "picture file is missing": 1,
        "film is missing": 1,
        "row without a path": 1,
        "label is not a known word or votes are negative": 1,
        "no known label": 1,
        "box is empty": 1,
        "box is not four numbers": 1,
        "blank line": 2,
        "wrong number of columns": 1,
    }


def test_table_of_votes_in_parquet(layouts: Any, collect: Any, tmp_path: Path) -> None:
    for name in "abcd":
        layouts.picture(tmp_path / f"{name}.png")
    layouts.fake_picture(tmp_path / "e.png")
    columns = {
        "path": [f"{name}.png" for name in "abcde"],
        "happiness": [3, 0, 1.0, None, 2],
        "votes_surprise": [1, 0, 0, 0, 0],
        "neutral": [0, 0, 0, 5, 0],
        "unknown": [0, 0, 9, 0, 0],
        "label": ["anger", "anger", "anger", None, "anger"],
    }
    pq.write_table(pa.table(columns), tmp_path / "votes.parquet")
    samples, reading = collect(TableSource(tmp_path / "votes.parquet"))
    assert samples["a.png"].targets.tolist() == [0.25, 0, 0, 0.75, 0, 0] and samples["a.png"].class_name == "happiness"
    assert samples["b.png"].class_name == "anger"  # no votes, so the label
    assert samples["d.png"].class_name == "neutral" and samples["d.png"].mask.all()
    assert reading.excluded == {"no known label (unknown)": 1, "file is not a picture": 1}


@pytest.mark.parametrize(
    ("text", "scale", "value"),
    [
        ("1", "occurrence", 1.0),
        ("0", "occurrence", 0.0),
        ("9", "occurrence", None),
        ("-1", "occurrence", None),
        ("", "occurrence", None),
        ("nan", "probability", None),
        ("1", "intensity", 0.0),
        ("2", "intensity", 1.0),
        ("5", "intensity", 1.0),
        ("a", "intensity", 0.0),
        ("B", "intensity", 1.0),
        ("9", "intensity", None),
        ("0.3", "probability", 0.3),
    ],
)
def test_codes_of_action_units(text: str, scale: Any, value: float | None) -> None:
    assert action_unit_value(text, scale=scale) == value


@pytest.mark.parametrize(
    ("text", "scale"),
    [("3", "occurrence"), ("0.5", "occurrence"), ("6", "intensity"), ("2", "probability"), ("x", "intensity")],
)
def test_codes_that_do_not_fit_their_scale(text: str, scale: Any) -> None:
    with pytest.raises(LeftOut):
        action_unit_value(text, scale=scale)


def test_table_of_action_units_and_openface_columns(layouts: Any, collect: Any, tmp_path: Path) -> None:
    layouts.picture(tmp_path / "a.png")
    rows: list[dict[str, object]] = [{"path": "a.png", "AU01_r": 2.4, "AU01_c": 0, "au4_r": 0.2, "AU 12_c": 1}]
    path = layouts.table(tmp_path / "units.csv", rows)
    assert collect(TableSource(path))[0]["a.png"].action_units == {"AU01": 0, "AU12": 1}
    sample = collect(TableSource(path, au_scale="intensity"))[0]["a.png"]
    assert sample.action_units == {"AU01": 1, "AU04": 0}
    sample = collect(TableSource(path, au_scale="intensity", au_threshold=3))[0]["a.png"]
    assert sample.action_units == {"AU01": 0, "AU04": 0}
    with pytest.raises(ConfigError, match="threshold"):
        TableSource(path, au_threshold=0)
    with pytest.raises(ConfigError, match="scale"):
        TableSource(path, au_scale="loud")  # type: ignore[arg-type]


def test_table_with_columns_of_its_own_names(layouts: Any, collect: Any, tmp_path: Path) -> None:
    layouts.picture(tmp_path / "pictures" / "a.png")
    path = layouts.table(tmp_path / "t.csv", [{"photo": "a.png", "feeling": "3", "neutral": ""}])
    reader = TableSource(path, columns="photo=path, feeling=emotion", order="fer2013", root=tmp_path / "pictures")
    assert collect(reader)[0]["a.png"].class_name == "happiness"
    for columns in ("photo=picture", "x=path", "photo"):
        with pytest.raises(ConfigError, match="NAME=ROLE"):
            TableSource(path, columns=columns)
    with pytest.raises(DataError, match="no column of paths"):
        TableSource(path)
    twice = layouts.table(tmp_path / "u.csv", [{"path": "a.png", "AU1": 1, "AU01": 1}])
    with pytest.raises(DataError, match="two columns hold AU01"):
        TableSource(twice)
    bare = layouts.table(tmp_path / "v.csv", [{"path": "a.png", "age": 3}])
    with pytest.raises(DataError, match="no column of labels"):
        TableSource(bare)
    with pytest.raises(DataError, match="is not a file"):
        TableSource(tmp_path)
    (tmp_path / "w.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match="not a Parquet file"):
        TableSource(tmp_path / "w.parquet")


def test_disfa_style_files_and_films(layouts: Any, collect: Any, tmp_path: Path, make_video: Any) -> None:
    root = tmp_path / "disfa"
    (root / "Video_LeftCamera").mkdir(parents=True)
    film = make_video(root / "Video_LeftCamera" / "LeftVideoSN001_comp.avi", [layouts.face() for _ in range(4)])
    make_video(root / "Video_LeftCamera" / "LeftVideoSN0012_comp.avi", [layouts.face() for _ in range(4)])
    labels = root / "ActionUnit_Labels"
    layouts.text(labels / "SN001" / "SN001_au12.txt", ["1,0", "2,1", "3,2", "4,5", "5,1"], end="\r\n", bom=True)
    layouts.text(labels / "SN001" / "SN001_au4.txt", ["1,3", "", "2,x", "3,9", "4,0,0"])
    layouts.text(labels / "SN002" / "SN002_au4.txt", ["1,3"])
    samples, reading = collect(AuFilesSource(root))
    assert {key: sample.action_units for key, sample in samples.items()} == {
        "SN001#00001": {"AU04": 1, "AU12": 0},
        "SN001#00003": {"AU12": 1},
        "SN001#00004": {"AU12": 1},
    }
    assert samples["SN001#00003"].picture == VideoFrame(path=film, frame=3)
    assert samples["SN001#00001"].group == "au-files/SN001"
    assert reading.excluded == {
        "blank line": 1,
        "wrong number of columns": 1,
        "action unit is not a number": 1,
        "label beyond the last frame": 1,
        "no film and no frames for these labels": 1,
    }


def test_bp4d_style_files_and_frames(layouts: Any, collect: Any, tmp_path: Path) -> None:
    root = tmp_path / "bp4d"
    layouts.text(root / "AUCoding" / "F001_T1.csv", ["0,1,2,12", "1,0,1,9", "2,1,0,0", "3,1", "4,9,9,9", "9,1,1,1"])
    layouts.text(root / "AUCoding" / "F001_T2.csv", ["frame,one,two", "1,0,1"])
    for number in (1, 4, 5):
        layouts.picture(root / "F001" / "T1" / f"{number:04d}.jpg")
    samples, reading = collect(AuFilesSource(root))
    assert {key: sample.action_units for key, sample in samples.items()} == {"F001_T1#00001": {"AU01": 0, "AU02": 1}}
    assert samples["F001_T1#00001"].group == "au-files/F001"
    assert reading.excluded == {
        "picture file is missing": 1,
        "wrong number of columns": 1,
        "no known label": 1,
        "label beyond the last frame": 1,
        "first line does not name the action units": 1,
        "no film and no frames for these labels": 1,
    }
    with pytest.raises(DataError, match=r"SN001_au12\.txt"):
        AuFilesSource(layouts.lfw())


def test_catalog_knows_every_data_set_of_the_paper() -> None:
    assert set(SOURCES) >= {
        *("affectnet", "affwild2-au", "affwild2-expr", "casia-webface", "celeba", "cexpr", "fer2013", "ferplus"),
        *("folder", "imdb", "lfw", "rafdb-basic", "rafdb-compound", "s-affwild2", "synth3d", "table", "unlabelled"),
        "wiki",
    }
    for name in SOURCES:
        assert "name" in source_options(name) and "folder" not in source_options(name)
    assert "track" not in source_options("affwild2-au") and "part" not in source_options("imdb")


def test_options_come_as_text(layouts: Any) -> None:
    root = layouts.affwild2("au")
    reader = open_source("affwild2-au", root, options={"every": "3", "keep_unlabelled": "true", "name": "aw2"})
    assert reader.reading.source == "aw2" and len(list(reader)) == 6
    assert open_source("affwild2-au", root).reading.source == "affwild2-au"
    for options in ({"every": "often"}, {"step": "3"}, {"keep_unlabelled": "perhaps"}):
        with pytest.raises(ConfigError, match="affwild2-au"):
            open_source("affwild2-au", root, options=options)
    with pytest.raises(ConfigError, match="not a known kind of data set"):
        open_source("affectnett", root)
    with pytest.raises(DataError, match="does not exist"):
        open_source("affectnet", root / "absent")
