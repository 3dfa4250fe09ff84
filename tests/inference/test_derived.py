"""Segments, windows, totals and exports, against straightforward computations on the table of frames."""

import csv
import itertools
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import femae
from femae.cli import main
from femae.inference.derived.frames import SeenFace, SeenFrame, frames_of, timed
from femae.inference.derived.segments import Segment, Segments, Windows
from femae.inference.derived.totals import Totals
from femae.labels import ABAW_COMPOUNDS, EMOTIONS

LABELS = ("none", "happiness", "Sadly Angry")


def film(rows: list[dict[int, str]], *, times_s: list[float] | None = None) -> list[SeenFrame]:
    """A frame per entry: face id -> expression."""
    rng = np.random.default_rng(0)
    frames = []
    for i, faces in enumerate(rows):
        shown = tuple(
            SeenFace(face_id, rng.random(6).astype(np.float32), label, float(rng.uniform(0.2, 1)))
            for face_id, label in sorted(faces.items())
        )
        time_s = i / 10 if times_s is None else times_s[i]
        frames.append(SeenFrame(source="clip.mp4", time_s=time_s, status="ok" if shown else "no_face", faces=shown))
    return frames


def segments(frames: list[SeenFrame], *, min_s: float = 0.0) -> list[Segment]:
    maker = Segments(min_s=min_s)
    found = [segment for moment in timed(frames) for segment in maker.push(moment)]
    return sorted([*found, *maker.finish()], key=lambda s: (s.face_id, s.start_s))


def runs(frames: list[SeenFrame]) -> list[tuple[int, str, int, int]]:
    """(face, label, first frame, frame after the last) of each run, computed from all frames at once."""
    out = []
    for face_id in sorted({face.face_id for frame in frames for face in frame.faces}):
        labels = [next((f.expression for f in frame.faces if f.face_id == face_id), None) for frame in frames]
        start = 0
        for i in range(1, len(labels) + 1):
            if i == len(labels) or labels[i] != labels[start]:
                if (label := labels[start]) is not None:
                    out.append((face_id, label, start, i))
                start = i
    return out


frames_strategy = st.lists(st.dictionaries(st.integers(1, 3), st.sampled_from(LABELS)), min_size=1, max_size=60)


@given(frames_strategy)
def test_segments_are_the_runs_of_one_label(rows: list[dict[int, str]]) -> None:
    frames = film(rows)
    length = 0.1 if len(frames) > 1 else 0.0
    for found, (face_id, label, start, stop) in zip(segments(frames), runs(frames), strict=True):
        assert (found.face_id, found.expression) == (face_id, label)
        assert found.start_s == pytest.approx(start / 10) and found.end_s == pytest.approx(
            (stop - 1) / 10 + length, abs=1e-9
        )
        probs = [f.probability for frame in frames[start:stop] for f in frame.faces if f.face_id == face_id]
        assert found.mean_probability == pytest.approx(np.mean(probs))
        assert found.peak_probability == max(probs)
        assert found.peak_s == pytest.approx((start + int(np.argmax(probs))) / 10)


@given(frames_strategy, st.sampled_from([0.15, 0.35, 1.0]))
def test_no_segment_is_shorter_than_the_least_and_none_overlap(rows: list[dict[int, str]], min_s: float) -> None:
    frames = film(rows)
    found = segments(frames, min_s=min_s)
    assert all(segment.duration_s >= min_s - 1e-6 for segment in found)
    for before, after in itertools.pairwise(found):
        if before.face_id == after.face_id:
            assert before.end_s <= after.start_s + 1e-9
    # the whole time in which a face is visible is covered, if it lasts long enough
    seen = {i: {f.face_id for f in frame.faces} for i, frame in enumerate(frames)}
    for face_id in {1, 2, 3}:
        start = None
        for i in range(len(frames) + 1):
            there = i < len(frames) and face_id in seen[i]
            if there and start is None:
                start = i
            if not there and start is not None:
                own = [s for s in found if s.face_id == face_id and start / 10 - 1e-9 <= s.start_s < i / 10 - 1e-9]
                covered = sum(s.duration_s for s in own)
                assert covered == pytest.approx((i - start) / 10) if own else (i - start) / 10 < min_s * 60
                start = None


def test_a_short_segment_joins_the_one_before_it_and_the_first_the_one_after() -> None:
    rows = ["none"] + ["happiness"] * 5 + ["none"] * 2 + ["happiness"] * 4 + ["Sadly Angry"] * 4
    found = segments(film([{1: label} for label in rows]), min_s=0.3)
    assert [(s.expression, round(s.start_s, 3), round(s.end_s, 3)) for s in found] == [
        ("happiness", 0.0, 1.2),
        ("Sadly Angry", 1.2, 1.6),
    ]
    assert segments(film([{1: "none"}, {}, {}, {2: "none"}, {2: "none"}, {2: "none"}]), min_s=0.25)[0].face_id == 2


def test_frames_last_until_the_next_one() -> None:
    times = [0.0, 0.017, 0.4, 0.45, 0.5]
    found = segments(film([{1: "none"}, {1: "none"}, {1: "happiness"}, {1: "happiness"}, {}], times_s=times))
    assert [(s.start_s, s.end_s) for s in found] == [(0.0, 0.4), (0.4, 0.5)]
    weighted = (0.017, 0.383)
    probs = [f.faces[0].probability for f in film([{1: "none"}] * 2)]
    assert found[0].mean_probability == pytest.approx(np.average(probs, weights=weighted))


@given(frames_strategy, st.sampled_from([0.25, 1.0, 10.0]))
def test_windows_are_means_of_the_frames_that_begin_in_them(rows: list[dict[int, str]], seconds: float) -> None:
    frames = film(rows)
    maker = Windows(seconds=seconds)
    found = [row for moment in timed(frames) for row in maker.push(moment)]
    found += maker.finish()
    flat = [(i / 10, f.face_id, f.expression, f.probs) for i, frame in enumerate(frames) for f in frame.faces]
    expected: dict[tuple[int, int], list[tuple[str, np.ndarray]]] = {}
    for time_s, face_id, label, probs in flat:
        expected.setdefault((int(time_s / seconds + 1e-9), face_id), []).append((label, probs))
    assert [(round(row["start_s"] / seconds), row["face_id"]) for row in found] == sorted(expected)
    for row in found:
        own = expected[round(row["start_s"] / seconds), row["face_id"]]
        assert row["num_frames"] == len(own)
        means = np.mean([probs for _, probs in own], axis=0)
        np.testing.assert_allclose([row[f"mean_{e}"] for e in EMOTIONS], means, rtol=1e-5)
        counts = Counter(label for label, _ in own)
        assert counts[row["expression"]] == max(counts.values())
        assert row["expression_share"] == pytest.approx(max(counts.values()) / len(own))


def test_totals_of_a_film() -> None:
    rows = [{1: "none"}, {1: "none", 2: "happiness"}, {}, {1: "happiness"}, {1: "Sadly Angry"}, {1: "Sadly Angry"}]
    frames = film(rows)
    totals = Totals("clip.mp4", compounds=ABAW_COMPOUNDS, film=True)
    for frame in frames:
        totals.count(frame)
    for moment in timed(frames):
        totals.push(moment)
    first, second = totals.rows()
    assert (first["face_id"], first["num_frames"], first["input_frames"]) == (1, 5, 6)
    assert first["seconds"] == pytest.approx(0.5) and (first["first_s"], first["last_s"]) == (0.0, pytest.approx(0.6))
    assert first["share_none"] == pytest.approx(0.4) and first["share_sadly_angry"] == pytest.approx(0.4)
    assert first["share_happiness"] == pytest.approx(0.2) and first["share_fear"] == 0
    # none -> (gap) happiness is not a change, happiness -> Sadly Angry is one
    assert first["changes_per_minute"] == pytest.approx(1 / (0.5 / 60))
    assert first["input_share_no_face"] == pytest.approx(1 / 6) and first["input_share_unreadable"] == 0
    np.testing.assert_allclose(second["mean_fear"], frames[1].faces[1].probs[1], rtol=1e-6)


@pytest.fixture(scope="module")
def carphone_out(carphone: Path, astronaut: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from PIL import Image

    out = tmp_path_factory.mktemp("derived")
    pictures = out / "photos"
    pictures.mkdir()
    for number in range(3):
        Image.fromarray(astronaut).save(pictures / f"{number}.png")
    arguments = ["predict", str(carphone), str(pictures), "--out", str(out / "o"), "--format", "csv,parquet", "--quiet"]
    options = ["--tables", "segments,summary", "--window", "0.5", "--exports", "elan,textgrid,webvtt"]
    assert main([*arguments, *options]) == 0
    return out / "o"


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_command_writes_what_it_is_asked_for(carphone_out: Path) -> None:
    stem = "carphone_pristine"
    films = {f"{stem}{kind}{suffix}" for kind in ("", ".segments", ".windows") for suffix in (".csv", ".parquet")}
    others = {f"{stem}{suffix}" for suffix in (".eaf", ".TextGrid", ".vtt")}
    run = {f"{name}{suffix}" for name in ("photos", "summary") for suffix in (".csv", ".parquet")}
    assert {path.name for path in carphone_out.iterdir()} == films | others | run | {"run.json", "run.journal"}
    frames = pd.read_csv(carphone_out / f"{stem}.csv")
    summary = rows_of(carphone_out / "summary.csv")
    seen = frames[frames.status == "ok"]
    first = next(row for row in summary if row["face_id"] == "1")
    assert int(first["num_frames"]) == len(seen) and float(first["mean_surprise"]) == pytest.approx(
        seen.surprise.mean(), abs=1e-3
    )
    for name in ("none", "surprise"):
        assert float(first[f"share_{name}"]) == pytest.approx((seen.expression == name).mean(), abs=1e-3)
    photos = next(row for row in summary if row["source"].endswith("photos"))
    assert photos["face_id"] == photos["seconds"] == "" and photos["num_frames"] == photos["input_frames"] == "3"
    assert float(photos["share_happiness"]) == 1
    windows = pd.read_csv(carphone_out / f"{stem}.windows.csv")
    assert len(windows) == 8 and windows.num_frames.sum() == len(seen)


def test_segments_of_the_command_are_those_of_the_table(carphone_out: Path) -> None:
    segments = rows_of(carphone_out / "carphone_pristine.segments.csv")
    frames = pd.read_csv(carphone_out / "carphone_pristine.csv")
    for row in segments:
        inside = frames[(frames.time_s >= float(row["start_s"]) - 1e-6) & (frames.time_s < float(row["end_s"]) - 1e-6)]
        assert set(inside.expression) == {row["expression"]} and len(inside) > 0
        peak = inside.loc[inside.expression_probability.idxmax()]
        assert float(row["peak_s"]) == pytest.approx(peak.time_s, abs=1e-6)
        assert float(row["peak_probability"]) == pytest.approx(peak.expression_probability, abs=1e-6)
        assert float(row["mean_probability"]) == pytest.approx(inside.expression_probability.mean(), abs=1e-3)
    assert sum(float(row["duration_s"]) for row in segments) == pytest.approx(120 / 30, abs=0.05)


def test_python_gives_what_the_command_writes(carphone_out: Path, carphone: Path, tmp_path: Path) -> None:
    found = femae.predict(carphone)
    for name, table in (("segments", found.segments()), ("windows", found.windows(0.5))):
        written = pd.read_parquet(carphone_out / f"carphone_pristine.{name}.parquet").drop(columns="source")
        given_ = table.to_pandas().drop(columns="source")
        pd.testing.assert_frame_equal(given_.sort_values("start_s"), written.sort_values("start_s"), rtol=1e-5)
    summary = found.summary().to_pandas()
    written = pd.read_parquet(carphone_out / "summary.parquet").iloc[:1].astype({"face_id": "int64"})
    pd.testing.assert_frame_equal(summary.drop(columns="source"), written.drop(columns="source"), rtol=1e-5)


def test_files_of_other_programs_are_read_by_the_fields_libraries(carphone_out: Path) -> None:
    import webvtt
    from praatio import textgrid
    from pympi import Eaf

    segments = rows_of(carphone_out / "carphone_pristine.segments.csv")
    wanted = [(float(r["start_s"]), float(r["end_s"]), r["expression"]) for r in segments]
    eaf = Eaf(str(carphone_out / "carphone_pristine.eaf"))
    assert list(eaf.get_tier_names()) == ["face 1"]
    elan = [(a / 1000, b / 1000, text) for a, b, text in eaf.get_annotation_data_for_tier("face 1")]
    grid = textgrid.openTextgrid(str(carphone_out / "carphone_pristine.TextGrid"), includeEmptyIntervals=False)
    praat = [(entry.start, entry.end, entry.label) for entry in grid.getTier("face 1").entries]
    for found in (sorted(elan), praat):
        assert [text for *_, text in found] == [text for *_, text in wanted]
        for (start, end, _), (a, b, _) in zip(found, wanted, strict=True):
            assert (start, end) == (pytest.approx(a, abs=0.00051), pytest.approx(b, abs=0.00051))
    captions = webvtt.read(str(carphone_out / "carphone_pristine.vtt"))
    assert [c.text.rsplit(" ", 1)[0] for c in captions] == [text for *_, text in wanted if text != "none"]


def test_two_faces_have_two_tiers_and_a_stretch_without_a_face_has_none(tmp_path: Path) -> None:
    from pympi import Eaf, TextGrid

    from femae.inference.derived.outputs import write_export

    found = segments(film([{1: "none", 2: "happiness"}, {2: "happiness"}, {}, {1: "Sadly Angry"}]))
    paths = [
        write_export(kind, tmp_path, stem="a", segments=found, media=Path("a & <b>.mp4"))
        for kind in ("elan", "textgrid", "webvtt")
    ]
    eaf = Eaf(str(paths[0]))
    assert sorted(eaf.get_tier_names()) == ["face 1", "face 2"]
    assert sorted(eaf.get_annotation_data_for_tier("face 1")) == [(0, 100, "none"), (300, 400, "Sadly Angry")]
    assert eaf.get_linked_files()[0]["MEDIA_URL"] == "a & <b>.mp4"
    tiers = {tier.name: tier for tier in TextGrid(str(paths[1])).get_tiers()}
    kept = [row for row in tiers["face 2"].get_intervals() if row[2]]
    assert [(round(a, 3), round(b, 3), text) for a, b, text in kept] == [(0.0, 0.2, "happiness")]
    assert "face 2: happiness" in paths[2].read_text() and "none" not in paths[2].read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.TextGrid", "a.eaf", "a.vtt"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--tables", "segment"], "did you mean 'segments'"),
        (["--exports", "elan,word"], "'word' is not a file of another program"),
        (["--window", "0"], "window"),
        (["--min-segment", "-1"], "min-segment"),
    ],
)
def test_wrong_wishes_are_refused(options: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "clip.mp4", *options]) == 2
    assert sentence in capsys.readouterr().err


def test_an_input_named_summary_keeps_its_table(carphone: Path, tmp_path: Path, make_video) -> None:
    import shutil

    shutil.copy(carphone, tmp_path / "summary.mp4")
    out = tmp_path / "out"
    options = ["--tables", "summary", "--format", "jsonl", "--out", str(out), "--quiet"]
    assert main(["predict", str(tmp_path / "summary.mp4"), *options]) == 0
    assert sorted(path.name for path in out.glob("summary*")) == ["summary-2.jsonl", "summary.jsonl"]
    row = json.loads((out / "summary.jsonl").read_text().splitlines()[0])
    assert row["source"].endswith("summary.mp4") and row["share_none"] > 0


def test_rows_of_a_frame_belong_together_over_batches() -> None:
    names = ("source", "frame", "time_s", "face_id", "status", *EMOTIONS, "expression", "expression_probability")
    rows = []
    for i in range(3000):
        for face_id in (1, 2):
            values = ("a", i, i / 25, face_id, "ok", *[0.1] * 6, "none", 0.9)
            rows.append(dict(zip(names, values, strict=True)))
    frames = list(frames_of(pa.Table.from_pylist(rows)))
    assert len(frames) == 3000 and all([f.face_id for f in frame.faces] == [1, 2] for frame in frames)
