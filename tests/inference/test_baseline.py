"""Probabilities relative to a face's own baseline."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import femae
from femae.cli import main
from femae.errors import ConfigError
from femae.inference.baseline import BaselineSink, with_baseline
from femae.inference.tables import prediction_schema
from femae.labels import ABAW_COMPOUNDS, EMOTIONS

SCHEMA = prediction_schema(ABAW_COMPOUNDS)
BEYOND = [f"{emotion}_minus_baseline" for emotion in EMOTIONS]


def batch(start: int, count: int, *, seed: int = 0) -> pa.RecordBatch:
    """Two faces a frame, every seventh frame without any."""
    rng = np.random.default_rng([seed, start])
    rows = []
    for i in range(start, start + count):
        here = {"source": "a.mp4", "frame": i + 1, "time_s": i / 10, "status": "no_face"}
        if i % 7 == 6:
            rows.append(here)
            continue
        for face_id in (1, 2):
            probs = {name: float(rng.beta(1 + face_id, 4)) for name in EMOTIONS}
            rows.append({**here, **probs, "status": "ok", "face_id": face_id, "expression": "none"})
    return pa.RecordBatch.from_pylist(rows, schema=SCHEMA)


def table() -> pa.Table:
    return pa.Table.from_batches([batch(start, 30) for start in range(0, 300, 30)])


def test_median_and_first_seconds_are_those_of_pandas() -> None:
    frame = table().to_pandas()
    by_face = frame.groupby("face_id")
    median = with_baseline(table(), "median").to_pandas()
    first = with_baseline(table(), "first:2.5").to_pandas()
    start = by_face.time_s.transform("min")
    early = frame[frame.time_s < start + 2.5].groupby("face_id")
    for emotion in EMOTIONS:
        expected = frame[emotion] - by_face[emotion].transform("median")
        np.testing.assert_allclose(median[f"{emotion}_minus_baseline"], expected, atol=0.005)
        exact = frame[emotion] - frame.face_id.map(early[emotion].mean())
        np.testing.assert_allclose(first[f"{emotion}_minus_baseline"], exact, atol=1e-6)
    assert median[BEYOND].isna().all(axis=1).tolist() == (frame.status == "no_face").tolist()
    assert median[list(frame.columns)].equals(frame)  # the original columns are unchanged


def test_the_sink_gives_the_same_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with BaselineSink(tmp_path, stem="a", formats=("parquet", "csv"), schema=SCHEMA, kind="median") as sink:
        for start in range(0, 300, 30):
            sink.write(batch(start, 30))
        assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv.part", "a.parquet.part", "a.rows.part"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv", "a.parquet"]
    expected = with_baseline(table(), "median").to_pandas()
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "a.parquet"), expected)
    assert list(pd.read_csv(tmp_path / "a.csv").columns[-6:]) == BEYOND


def test_an_interruption_keeps_the_complete_rows(tmp_path: Path) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        BaselineSink(tmp_path, stem="a", formats=("parquet",), schema=SCHEMA, kind="first:1") as sink,
    ):
        sink.write(batch(0, 30))
        raise KeyboardInterrupt
    assert [p.name for p in tmp_path.iterdir()] == ["a.partial.parquet"]
    kept = pd.read_parquet(tmp_path / "a.partial.parquet")
    whole = with_baseline(pa.Table.from_batches([batch(0, 30)]), "first:1").to_pandas()
    pd.testing.assert_frame_equal(kept, whole)


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError),
        BaselineSink(tmp_path, stem="a", formats=("csv",), schema=SCHEMA, kind="median") as sink,
    ):
        sink.write(batch(0, 30))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_the_command_and_python(carphone: Path, astronaut: np.ndarray, tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(astronaut).save(tmp_path / "a.png")
    out = tmp_path / "out"
    arguments = ["predict", str(carphone), str(tmp_path / "a.png"), "--out", str(out), "--quiet"]
    assert main([*arguments, "--baseline", "median", "--format", "parquet"]) == 0
    written = pd.read_parquet(out / "carphone_pristine.parquet")
    given = femae.predict(carphone).with_baseline("median").to_pandas()
    pd.testing.assert_frame_equal(given[BEYOND], written[BEYOND])
    assert abs(written.surprise_minus_baseline.median()) < 0.001
    assert pd.read_parquet(out / "pictures.parquet")[BEYOND].isna().all(axis=None)  # faces in pictures have no track


@pytest.mark.parametrize("kind", ["mean", "first", "first:", "first:-1", "first:nan", "median:3"])
def test_other_baselines_are_refused(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="is not a baseline; expected median, or first:SECONDS"):
        with_baseline(table(), kind)
    assert main(["predict", "a.mp4", "--baseline", kind]) == 2
    assert "is not a baseline" in capsys.readouterr().err
