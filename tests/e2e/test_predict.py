"""`femae predict` on real films and pictures: the table's contract, films, ids, and several inputs at once."""

import csv
import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import femae
from femae.cli import main

CONTRACT = (
    "source,frame,time_s,face_id,status,x1,y1,x2,y2,detection_score,surprise,fear,disgust,happiness,sadness,anger,"
    "fearfully_surprised,happily_surprised,sadly_surprised,disgustedly_surprised,angrily_surprised,sadly_fearful,"
    "sadly_angry,compound,compound_score,expression,expression_probability"
).split(",")
UNITS = "AU01,AU02,AU04,AU05,AU12,AU25,AU26,AU27,AU43".split(",")  # of the model that ships
EMOTIONS = CONTRACT[10:16]
COMPOUNDS = CONTRACT[16:23]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def carphone_out(carphone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("carphone") / "new" / "folder"
    assert main(["predict", str(carphone), "--out", str(out), "--format", "csv,parquet,jsonl", "--video"]) == 0
    return out


def test_a_film_gives_one_row_per_frame_in_the_contracts_columns(carphone_out: Path, carphone: Path) -> None:
    rows = rows_of(carphone_out / "carphone_pristine.csv")
    assert list(rows[0]) == CONTRACT + UNITS
    with av.open(str(carphone)) as container:
        times = [float(frame.time) for frame in container.decode(video=0)]
    assert [int(row["frame"]) for row in rows] == list(range(1, 121))
    assert [float(row["time_s"]) for row in rows] == pytest.approx(times, abs=1e-6)
    assert {row["source"] for row in rows} == {"carphone_pristine.mp4"}
    found = [row for row in rows if row["status"] == "ok"]
    assert len(found) >= 118
    assert {row["face_id"] for row in found} == {"1"}


def test_scores_follow_from_the_probabilities(carphone_out: Path) -> None:
    pairs = {
        "fearfully_surprised": ("fear", "surprise"),
        "happily_surprised": ("happiness", "surprise"),
        "sadly_surprised": ("sadness", "surprise"),
        "disgustedly_surprised": ("disgust", "surprise"),
        "angrily_surprised": ("anger", "surprise"),
        "sadly_fearful": ("sadness", "fear"),
        "sadly_angry": ("sadness", "anger"),
    }
    for row in rows_of(carphone_out / "carphone_pristine.csv"):
        if row["status"] != "ok":
            continue
        for column, (first, second) in pairs.items():
            assert float(row[column]) == pytest.approx(float(row[first]) + float(row[second]), abs=2e-4)
        best = max(COMPOUNDS, key=lambda column: float(row[column]))
        assert float(row["compound_score"]) == pytest.approx(float(row[best]), abs=1e-6)
        assert float(row[row["compound"].lower().replace(" ", "_")]) == float(row[best])


def test_the_three_formats_hold_the_same(carphone_out: Path) -> None:
    rows = rows_of(carphone_out / "carphone_pristine.csv")
    table = pq.read_table(carphone_out / "carphone_pristine.parquet")
    lines = [json.loads(line) for line in (carphone_out / "carphone_pristine.jsonl").read_text().splitlines()]
    assert table.column_names == CONTRACT + UNITS
    assert len(rows) == table.num_rows == len(lines)
    for name in ("surprise", "x1", "compound_score", "time_s"):
        values = [None if row[name] == "" else float(row[name]) for row in rows]
        assert table[name].to_pylist() == pytest.approx(values, abs=0.01)
        assert [line[name] for line in lines] == pytest.approx(values, abs=0.01)


def test_the_annotated_film_has_the_sources_length_and_timing(carphone_out: Path, carphone: Path) -> None:
    with av.open(str(carphone)) as source, av.open(str(carphone_out / "carphone_pristine.annotated.mp4")) as film:
        expected = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in source.decode(video=0)]
        got = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in film.decode(video=0)]
    assert [time for time, _ in got] == pytest.approx([time for time, _ in expected], abs=1e-3)
    assert got[0][1].shape == expected[0][1].shape
    assert np.abs(got[0][1].astype(int) - expected[0][1]).max() > 60  # something was drawn


def test_nothing_but_the_results_is_left(carphone_out: Path) -> None:
    stem = "carphone_pristine"
    assert sorted(path.name for path in carphone_out.iterdir()) == [
        f"{stem}.annotated.mp4",
        f"{stem}.csv",
        f"{stem}.jsonl",
        f"{stem}.parquet",
        "run.journal",
        "run.json",
    ]


@pytest.fixture(scope="module")
def one(carphone: Path) -> pa.Table:
    """What one thread makes of the film."""
    return femae.predict(carphone, threads=1).table


def test_threads_and_detection_on_each_frame_change_no_frame_count_and_few_labels(
    carphone: Path, one: pa.Table
) -> None:
    two = femae.predict(carphone, threads=3).table
    assert one.equals(two)
    every = femae.predict(carphone, detect_every=1).table
    assert every["frame"].to_pylist() == one["frame"].to_pylist()
    changed = every.select(EMOTIONS).to_pandas() - one.select(EMOTIONS).to_pandas()
    assert changed.abs().to_numpy().mean() < 0.01
    same = [a == b for a, b in zip(every["compound"].to_pylist(), one["compound"].to_pylist(), strict=True)]
    assert np.mean(same) >= 0.95


def test_folders_single_pictures_and_equal_stems(
    tmp_path: Path, astronaut: np.ndarray, make_video: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photos"
    (tmp_path / "other").mkdir()
    folder.mkdir()
    for name in ("img10.png", "img2.png"):
        Image.fromarray(astronaut).save(folder / name)
    Image.fromarray(np.zeros((80, 80, 3), np.uint8)).save(folder / "img3.png")
    (folder / "img4.png").write_bytes(b"not a picture")
    Image.fromarray(astronaut).save(tmp_path / "one.jpg")
    first = make_video(tmp_path / "clip.mp4", [astronaut] * 3)
    second = make_video(tmp_path / "other" / "clip.mp4", [astronaut] * 2)
    out = tmp_path / "out"
    inputs = [str(folder), str(tmp_path / "one.jpg"), str(first), str(second)]
    assert main(["predict", *inputs, "--out", str(out)]) == 1  # img4.png is no picture
    rows = rows_of(out / "photos.csv")
    assert [row["source"] for row in rows] == ["img2.png", "img3.png", "img4.png", "img10.png"]
    assert [row["status"] for row in rows] == ["ok", "no_face", "unreadable", "ok"]
    assert {row["frame"] for row in rows} == {"1"}
    assert {row["time_s"] for row in rows} == {""}
    assert rows[1]["surprise"] == rows[1]["face_id"] == rows[2]["compound_score"] == ""
    assert float(rows[0]["happiness"]) > 0.5  # she smiles
    assert [row["source"] for row in rows_of(out / "pictures.csv")] == ["one.jpg"]
    assert (len(rows_of(out / "clip.csv")), len(rows_of(out / "clip-2.csv"))) == (3, 2)
    assert "img4.png" in capsys.readouterr().err


def test_a_film_without_faces_has_a_row_for_every_frame(tmp_path: Path, make_video: Any) -> None:
    path = make_video(tmp_path / "empty.mp4", [np.full((120, 160, 3), 90, np.uint8)] * 12)
    table = femae.predict(path).table
    assert table["status"].to_pylist() == ["no_face"] * 12
    assert table["face_id"].null_count == table["anger"].null_count == 12


def test_irregular_times_are_the_films_own(tmp_path: Path, astronaut: np.ndarray, make_video: Any) -> None:
    times = [0.0, 0.04, 0.05, 0.3, 0.31, 0.9]
    path = make_video(tmp_path / "vfr.mp4", [astronaut[:256, 100:356]] * 6, times_s=times, rate=Fraction(25))
    assert femae.predict(path).table["time_s"].to_pylist() == pytest.approx(times, abs=1e-4)


def test_a_damaged_film_gives_what_decodes_and_says_what_does_not(
    tmp_path: Path, astronaut: np.ndarray, make_video: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    moving = [np.roll(astronaut, shift, axis=1) for shift in range(0, 120, 2)]
    whole = make_video(tmp_path / "whole.mkv", moving, options={"g": "10", "bf": "0"})
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    assert main(["predict", str(cut), str(whole), "--out", str(tmp_path / "out")]) == 1
    rows, full = rows_of(tmp_path / "out" / "cut.csv"), rows_of(tmp_path / "out" / "whole.csv")
    read = [row for row in rows if row["status"] != "unreadable"]
    assert 20 < len(read) < 60
    assert [row["frame"] for row in read] == [row["frame"] for row in full[: len(read)]]
    assert len(full) == 60
    assert "cut.mkv" in capsys.readouterr().err


def test_crops_are_taken_whole_when_asked(tmp_path: Path, astronaut: np.ndarray) -> None:
    path = tmp_path / "crop.png"
    Image.fromarray(astronaut[60:190, 160:290]).save(path)
    row = femae.predict(path, faces="whole").to_pandas().iloc[0]
    assert (row.x1, row.y1, row.x2, row.y2) == (0, 0, 130, 130)
    assert row.status == "ok" and np.isnan(row.detection_score)
    assert row.happiness > 0.5


@pytest.mark.parametrize("light", [0.4, 0.2, 0.1])
def test_a_smile_in_the_dark_is_still_a_smile(tmp_path: Path, astronaut: np.ndarray, light: float) -> None:
    noise = np.random.default_rng(0).normal(0, 1.5, astronaut.shape)
    Image.fromarray(np.clip(astronaut * light + noise, 0, 255).astype(np.uint8)).save(tmp_path / "dark.png")
    row = femae.predict(tmp_path / "dark.png", max_faces=1).to_pandas().iloc[0]
    assert row.happiness > 0.5 and row.sadness < 0.2


def test_rules_class_sets_and_thresholds(tmp_path: Path, astronaut: np.ndarray) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(astronaut).save(path)
    plain = femae.predict(path).to_pandas().iloc[0]
    mean = femae.predict(path, rule="arithmetic").to_pandas().iloc[0]
    assert mean.compound == plain.compound == "Happily Surprised"
    assert mean.compound_score == pytest.approx(plain.compound_score / 2, abs=1e-5)
    abstained = femae.predict(path, threshold=1.99).to_pandas().iloc[0]
    assert abstained.compound == "" and abstained.compound_score == pytest.approx(plain.compound_score)
    raf = femae.predict(path, classes="raf-db").to_pandas().iloc[0]
    assert "happily_disgusted" in raf.index and raf.compound.startswith("Happily")
    own = femae.predict(path, classes="sadness+anger,fear+disgust").to_pandas().iloc[0]
    assert own.compound in ("Sadly Angry", "Fearfully Disgusted")


def test_the_label_that_is_shown_changes_words_and_pictures_but_no_table(
    tmp_path: Path, astronaut: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(astronaut).save(tmp_path / "a.png")
    said = {}
    for labels in ("expression", "compound"):
        out = ["--video", "--out", str(tmp_path / labels), "--labels", labels]
        assert main(["predict", str(tmp_path / "a.png"), *out]) == 0
        said[labels] = capsys.readouterr().out.splitlines()[1]
    assert said == {"expression": "  happiness 100%", "compound": "  Happily Surprised 100%"}
    first, second = (tmp_path / labels for labels in said)
    assert (first / "pictures.csv").read_bytes() == (second / "pictures.csv").read_bytes()
    pictures = [np.asarray(Image.open(folder / "pictures.annotated" / "a.png"), int) for folder in (first, second)]
    assert 50 < (pictures[0] != pictures[1]).any(axis=2).sum() < 20_000  # one line of text


def test_smoothing_keeps_the_raw_scores(carphone: Path, one: pa.Table) -> None:
    plain = one.to_pandas()
    smooth = femae.predict(carphone, smooth=0.5).to_pandas()
    assert list(smooth.columns) == CONTRACT + UNITS + [f"raw_{name}" for name in EMOTIONS]
    np.testing.assert_allclose(smooth.raw_surprise, plain.surprise, atol=1e-6)
    assert smooth.surprise.diff().abs().sum() < 0.7 * plain.surprise.diff().abs().sum()


def test_stream_gives_results_while_the_film_is_read(carphone: Path) -> None:
    predictor = femae.Predictor()
    stream = predictor.stream(carphone)
    first = next(stream)
    assert (first.frame.index, first.status) == (1, "ok")
    assert first.faces[0].probs.shape == (6,)
    stream.close()  # type: ignore[attr-defined]
    assert len(list(predictor.stream(carphone))) == 120  # the predictor can be used again


def test_prediction_imports_neither_torch_nor_opencv(carphone: Path, tmp_path: Path) -> None:
    code = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "timm", "cv2", "retinaface", "matplotlib", "skvideo"):
            raise ImportError(name + " was imported")
sys.meta_path.insert(0, Blocked())
from femae.cli import main
sys.exit(main(["predict", {str(carphone)!r}, "--out", {str(tmp_path)!r}, "--video", "--quiet"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == done.stderr == ""


def test_demo_runs_the_main_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--out", str(tmp_path)]) == 0
    assert len(rows_of(tmp_path / "carphone_pristine.csv")) == 120
    said = capsys.readouterr().out
    assert "120 frames" in said and "face id" in said and "frames/s" in said


def test_models_says_what_ships(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    said = capsys.readouterr().out
    assert "48 x 48 gray" in said and "surprise, fear, disgust, happiness, sadness, anger" in said
    assert main(["models", "--card"]) == 0
    assert "FER+" in capsys.readouterr().out


@pytest.mark.shared
def test_a_smile_is_not_read_as_sadness(shared_data: Path) -> None:
    table = femae.predict(shared_data / "videos" / "man_smile.mp4").to_pandas()
    start, end = table.iloc[:10], table.iloc[-15:]
    assert end.happiness.mean() > start.happiness.mean() + 0.3
    assert end.happiness.mean() > 0.6
    assert end.sadness.mean() < 0.2


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "frames", "ids"),
    [("two_faces.mp4", 75, 2), ("four_faces.mp4", 75, 4), ("phone_rotated_90.mp4", 48, 1), ("vp9.webm", 40, 1)],
)
def test_hard_clips_have_all_frames_and_people(shared_data: Path, name: str, frames: int, ids: int) -> None:
    table = femae.predict(shared_data / "videos" / "hard" / name).to_pandas()
    assert sorted(table.frame.unique()) == list(range(1, frames + 1))
    assert table.face_id.nunique() == ids
    assert len(table) == frames * ids
