"""The table contract: columns and their order, null values, and the conversions of a Predictions object."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.json as pajson
import pyarrow.parquet as pq
import pytest
from PIL import Image

import femae
from femae.errors import MissingDependencyError, OutputError
from femae.inference.tables import Predictions, prediction_schema, results_to_batch
from femae.labels import ABAW_COMPOUNDS, EMOTIONS, RAF_DB_COMPOUNDS, Compound, parse_class_set
from femae.types import Face, FaceResult, Frame, FrameResult

CONTRACT = [
    "source",
    "frame",
    "time_s",
    "face_id",
    "status",
    "x1",
    "y1",
    "x2",
    "y2",
    "detection_score",
    "surprise",
    "fear",
    "disgust",
    "happiness",
    "sadness",
    "anger",
    "fearfully_surprised",
    "happily_surprised",
    "sadly_surprised",
    "disgustedly_surprised",
    "angrily_surprised",
    "sadly_fearful",
    "sadly_angry",
    "compound",
    "compound_score",
    "expression",
    "expression_probability",
]
NASTY_NAMES = [
    "a,b.mp4",
    'say "cheese".mp4',
    "two\nlines.mp4",
    "carriage\rreturn.mp4",
    " spaces around .mp4 ",
    "顔 émotion 😀.mp4",
    "שלום.mp4",
    "=1+1.mp4",
    "-dash.mp4",
    "tab\there.mp4",
    "semi;colon.mp4",
    "back\\slash.mp4",
]


def make_face(
    seed: int = 0,
    *,
    face_id: int = 1,
    compounds: tuple[Compound, ...] = ABAW_COMPOUNDS,
    num_aus: int = 0,
    smoothed: bool = False,
    filled: bool = False,
    abstained: bool = False,
) -> FaceResult:
    rng = np.random.default_rng(seed)
    scores = rng.random(len(compounds), np.float32) * 2
    x, y = rng.random(2, np.float32) * 500
    return FaceResult(
        face=Face(
            box_xyxy=np.array([x - 20, y, x + 40, y + 60], np.float32),
            landmarks=None,
            score=float("nan") if filled else 0.99,
        ),
        face_id=face_id,
        probs=rng.random(6, np.float32),
        scores=scores,
        compound="" if abstained else compounds[int(scores.argmax())].name,
        compound_score=float(scores.max()),
        expression="none" if seed % 3 else compounds[0].name,
        expression_probability=float(rng.random(dtype=np.float32)),
        au_probs=rng.random(num_aus, np.float32),
        raw_probs=rng.random(6, np.float32) if smoothed and not filled else None,
        filled=filled,
    )


def make_frame(
    index: int,
    *faces: FaceResult,
    time_s: float | None = None,
    source: str = "clip.mp4",
    readable: bool = True,
) -> FrameResult:
    frame = Frame(index=index, time_s=time_s, image=None, source=source)
    status = "ok" if faces else "no_face" if readable else "unreadable"
    return FrameResult(frame=frame, status=status, faces=faces)  # type: ignore[arg-type]


def make_film(num_frames: int = 60) -> list[FrameResult]:
    """Frames with no, one and two faces, one unreadable, times without an exact binary form."""
    results = []
    for i in range(1, num_frames + 1):
        faces = [make_face(seed=i * 10 + k, face_id=k, abstained=i % 7 == 0) for k in range(1, 1 + i % 3)]
        results.append(make_frame(i, *faces, time_s=(i - 1) * 1001 / 30000, readable=i != 3))
    return results


def predictions(results: list[FrameResult], **options: Any) -> Predictions:
    schema = prediction_schema(ABAW_COMPOUNDS, **options)
    return Predictions.from_batches([results_to_batch(results, schema=schema)], schema=schema)


def test_columns_of_the_contract_in_their_order() -> None:
    schema = prediction_schema(ABAW_COMPOUNDS)
    assert schema.names == CONTRACT
    assert [str(schema.field(name).type) for name in CONTRACT[:5]] == ["string", "int64", "double", "int64", "string"]
    floats = set(CONTRACT[5:]) - {"compound", "expression"}
    assert {str(schema.field(name).type) for name in floats} == {"float"}
    assert schema.field("compound").type == pa.string()
    assert {field.name for field in schema if not field.nullable} == {"source", "frame", "status"}


def test_action_units_and_raw_probabilities_come_last() -> None:
    schema = prediction_schema(ABAW_COMPOUNDS, au_names=("AU01", "AU12"), raw=True)
    assert schema.names == [*CONTRACT, "AU01", "AU12", *(f"raw_{emotion}" for emotion in EMOTIONS)]


@pytest.mark.parametrize("classes", ["raf-db", "fear+surprise,anger+disgust"])
def test_other_class_sets_bring_their_own_columns(classes: str) -> None:
    compounds = parse_class_set(classes)
    schema = prediction_schema(compounds)
    place = CONTRACT.index("fearfully_surprised")
    own = [compound.column for compound in compounds]
    assert schema.names == [*CONTRACT[:place], *own, *CONTRACT[CONTRACT.index("compound") :]]
    face = make_face(compounds=compounds)
    row = results_to_batch([make_frame(1, face)], schema=schema).to_pylist()[0]
    np.testing.assert_array_equal([row[name] for name in own], face.scores)


def test_metadata_tells_how_the_table_came_about() -> None:
    schema = prediction_schema(RAF_DB_COMPOUNDS, metadata={"model": "femae-s 1", "rules": '{"rule": "sum"}'})
    assert schema.metadata == {
        b"femae_version": femae.__version__.encode(),
        b"compounds": ", ".join(compound.name for compound in RAF_DB_COMPOUNDS).encode(),
        b"model": b"femae-s 1",
        b"rules": b'{"rule": "sum"}',
    }


def test_values_of_a_face_stand_in_their_columns() -> None:
    face = make_face(seed=4, face_id=3, num_aus=2, smoothed=True)
    schema = prediction_schema(ABAW_COMPOUNDS, au_names=("AU01", "AU02"), raw=True)
    batch = results_to_batch([make_frame(7, face, time_s=0.25)], schema=schema)
    row = batch.to_pylist()[0]
    assert (row["source"], row["frame"], row["time_s"], row["face_id"], row["status"]) == ("clip.mp4", 7, 0.25, 3, "ok")
    assert (row["compound"], row["compound_score"]) == (face.compound, face.compound_score)
    assert (row["expression"], row["expression_probability"]) == (face.expression, face.expression_probability)
    assert face.raw_probs is not None
    for names, values in (
        (("x1", "y1", "x2", "y2"), face.face.box_xyxy),
        (EMOTIONS, face.probs),
        ([compound.column for compound in ABAW_COMPOUNDS], face.scores),
        (("AU01", "AU02"), face.au_probs),
        ([f"raw_{emotion}" for emotion in EMOTIONS], face.raw_probs),
    ):
        np.testing.assert_array_equal([row[name] for name in names], values)
    assert row["detection_score"] == np.float32(0.99)


def test_one_row_per_face_and_one_per_frame_without() -> None:
    results = make_film(30)
    table = predictions(results).table
    wanted = [(r.frame.index, face.face_id if face else None) for r in results for face in (r.faces or (None,))]
    assert list(zip(table["frame"].to_pylist(), table["face_id"].to_pylist(), strict=True)) == wanted
    assert set(table["status"].to_pylist()) == {"ok", "no_face", "unreadable"}
    for row in table.to_pylist():
        empty = {name for name, value in row.items() if value is None}
        assert empty == (set() if row["status"] == "ok" else {"face_id", *CONTRACT[5:]})


def test_abstained_is_an_empty_string_with_its_score() -> None:
    row = predictions([make_frame(1, make_face(abstained=True))]).table.to_pylist()[0]
    assert row["compound"] == "" and row["compound_score"] > 0


def test_pictures_have_no_time() -> None:
    assert predictions([make_frame(1, make_face())]).table["time_s"].to_pylist() == [None]


def test_filled_faces_have_no_detection_score_and_no_raw_values() -> None:
    results = [
        make_frame(1, make_face(smoothed=True)),
        make_frame(2, make_face(filled=True)),
        make_frame(3, make_face()),
    ]
    smoothed, filled, untouched = predictions(results, raw=True).table.to_pylist()
    raw = [f"raw_{emotion}" for emotion in EMOTIONS]
    assert all(smoothed[name] is not None for name in [*raw, "detection_score"])
    assert all(filled[name] is None for name in [*raw, "detection_score"])
    assert filled["status"] == "ok" and filled["surprise"] is not None and filled["x1"] is not None
    assert all(untouched[f"raw_{emotion}"] == untouched[emotion] for emotion in EMOTIONS)


def test_name_that_is_no_text_becomes_text() -> None:
    name = b"caf\xe9.mp4".decode("utf-8", "surrogateescape")  # as Linux gives a Latin-1 name
    assert predictions([make_frame(1, source=name)]).table["source"].to_pylist() == ["caf?.mp4"]


def test_batches_join_to_the_same_table() -> None:
    results, schema = make_film(50), prediction_schema(ABAW_COMPOUNDS)
    parts = [results_to_batch(results[i : i + 7], schema=schema) for i in range(0, 50, 7)]
    assert Predictions.from_batches(parts, schema=schema).table.equals(predictions(results).table)


def test_length_problems_and_repr() -> None:
    schema = prediction_schema(ABAW_COMPOUNDS)
    results = [make_frame(i, make_face(seed=1), time_s=i / 25) for i in range(1, 4)] + [make_frame(4, time_s=0.2)]
    batch = results_to_batch(results, schema=schema)
    film = Predictions.from_batches([batch], schema=schema, problems=["frame 4 is damaged"])
    assert len(film) == 4 and film.problems == ("frame 4 is damaged",)
    name = results[0].faces[0].expression
    assert repr(film) == (
        f"<Predictions for clip.mp4: 4 frames, 1 without a face; 3 faces; mostly {name} (100%); 1 problem>"
    )
    two = [make_frame(1, make_face(1), make_face(2, face_id=2), source=f"{i}.png") for i in range(2)]
    assert repr(predictions(two)).startswith("<Predictions for 2 pictures: 2 frames, 0 without a face; 4 faces; mostly")


def test_empty_table_has_all_columns_and_can_be_written(tmp_path: Path) -> None:
    empty = Predictions.from_batches([], schema=prediction_schema(ABAW_COMPOUNDS))
    assert len(empty) == 0 and empty.table.schema.names == CONTRACT
    assert "0 frames" in repr(empty)
    assert len(empty.to_pandas()) == len(empty.to_polars()) == 0
    for suffix in ("csv", "parquet", "jsonl"):
        empty.write(tmp_path / f"e.{suffix}")
    assert (tmp_path / "e.csv").read_bytes() == (",".join(CONTRACT) + "\n").encode()
    assert (tmp_path / "e.jsonl").read_bytes() == b""
    assert pq.read_table(tmp_path / "e.parquet").schema.equals(empty.table.schema, check_metadata=True)
    assert list(pd.read_csv(tmp_path / "e.csv").columns) == CONTRACT


def test_to_pandas_keeps_ids_whole_and_missing_values_missing() -> None:
    film = predictions(make_film())
    frame = film.to_pandas()
    assert list(frame.columns) == CONTRACT and len(frame) == len(film)
    assert str(frame["face_id"].dtype) == "Int64" and str(frame["frame"].dtype) == "int64"
    without = frame[frame["status"] != "ok"]
    assert len(without) and without["face_id"].isna().all() and without["compound"].isna().all()
    np.testing.assert_array_equal(frame["fear"], film.table["fear"].to_numpy())


def test_to_polars_is_the_same_table() -> None:
    film = predictions(make_film())
    frame = film.to_polars()
    assert frame.to_dicts() == film.table.to_pylist()
    assert frame.schema["face_id"] == pl.Int64 and frame.schema["anger"] == pl.Float32


@pytest.mark.parametrize(("method", "package"), [("to_pandas", "pandas"), ("to_polars", "polars")])
def test_missing_package_is_named(method: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # as if the package were not installed
    with pytest.raises(MissingDependencyError, match=rf"{method}\(\) needs {package}.*pip install {package}"):
        getattr(predictions([make_frame(1)]), method)()


def test_neither_pandas_nor_polars_is_imported_before_it_is_asked_for(
    tmp_path: Path, astronaut: npt.NDArray[np.uint8]
) -> None:
    """pyarrow imports pandas, if installed, for every array made from Python or numpy values."""
    Image.fromarray(astronaut).save(tmp_path / "face.png")
    code = (
        "import sys; from femae.cli import main; assert main(sys.argv[1:]) == 0;"
        "heavy = {'pandas', 'polars', 'torch', 'cv2', 'matplotlib'} & set(sys.modules); assert not heavy, heavy"
    )
    words = ["predict", str(tmp_path / "face.png"), "--out", str(tmp_path / "out"), "--format", "csv,parquet,jsonl"]
    subprocess.run([sys.executable, "-c", code, *words], check=True, env={**os.environ})
    for suffix in ("csv", "parquet", "jsonl"):
        assert (tmp_path / "out" / f"pictures.{suffix}").is_file()


def read_back(path: Path) -> dict[str, pl.DataFrame]:
    """A written table as read by pandas, polars and pyarrow, each as a polars frame."""
    if path.suffix == ".parquet":
        return {
            "pandas": pl.from_pandas(pd.read_parquet(path)),
            "polars": pl.read_parquet(path),
            "pyarrow": pl.from_arrow(pq.read_table(path)),  # type: ignore[dict-item]
        }
    if path.suffix == ".jsonl":
        return {
            "pandas": pl.from_pandas(pd.read_json(path, lines=True)),
            "polars": pl.read_ndjson(path),
            "pyarrow": pl.from_arrow(pajson.read_json(path)),  # type: ignore[dict-item]
        }
    options = pacsv.ParseOptions(newlines_in_values=True)
    return {
        "pandas": pl.from_pandas(pd.read_csv(path)),
        "polars": pl.read_csv(path, infer_schema_length=None),
        "pyarrow": pl.from_arrow(pacsv.read_csv(path, parse_options=options)),  # type: ignore[dict-item]
    }


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_written_and_read_back_by_three_libraries(suffix: str, tmp_path: Path) -> None:
    film = predictions(make_film(), metadata={"model": "x"})
    path = film.write(tmp_path / f"clip.{suffix}")
    wanted = film.to_polars()
    for library, frame in read_back(path).items():
        assert frame.columns == CONTRACT, library
        assert len(frame) == len(wanted), library
        for name in CONTRACT:
            column = frame[name].to_list()
            truth = wanted[name].to_list()
            if name in ("source", "status", "compound", "expression"):  # empty and missing text are one in CSV
                assert [value or "" for value in column] == [value or "" for value in truth], (library, name)
                continue
            tolerance = 0 if suffix == "parquet" else 0.0051 if name in ("x1", "y1", "x2", "y2") else 5.1e-7
            given = np.array([np.nan if value is None else value for value in column], np.float64)
            expected = np.array([np.nan if value is None else value for value in truth], np.float64)
            np.testing.assert_allclose(given, expected, rtol=0, atol=tolerance, err_msg=f"{library} {name}")


def test_parquet_and_jsonl_tell_abstained_from_no_face(tmp_path: Path) -> None:
    film = predictions([make_frame(1, make_face(abstained=True)), make_frame(2)])
    for suffix in ("parquet", "jsonl"):
        for library, frame in read_back(film.write(tmp_path / f"a.{suffix}")).items():
            assert frame["compound"].to_list()[0] == "", (library, suffix)
            assert frame["compound"].to_list()[1] is None, (library, suffix)
    assert pq.read_table(tmp_path / "a.parquet").equals(film.table)


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_names_of_any_kind_survive(suffix: str, tmp_path: Path) -> None:
    film = predictions([make_frame(1, make_face(i), source=name) for i, name in enumerate(NASTY_NAMES)])
    path = film.write(tmp_path / f"names.{suffix}")
    for library, frame in read_back(path).items():
        assert frame["source"].to_list() == NASTY_NAMES, library


def test_times_come_back_to_the_microsecond(tmp_path: Path) -> None:
    times = [0.0, 1001 / 30000, 1 / 90000, 35999.966633, 3600 + 1 / 3]
    film = predictions([make_frame(i, make_face(i), time_s=time) for i, time in enumerate(times, start=1)])
    for suffix in ("csv", "jsonl"):
        for frame in read_back(film.write(tmp_path / f"t.{suffix}")).values():
            np.testing.assert_allclose(frame["time_s"].to_numpy(), times, rtol=0, atol=5.01e-7)


def test_write_refuses_other_suffixes(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"'\.xlsx' is not a table format; end the name in \.csv, \.parquet, \.jsonl"):
        predictions([make_frame(1)]).write(tmp_path / "clip.xlsx")
    assert not list(tmp_path.iterdir())


def test_write_replaces_and_makes_folders(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "clip.CSV"
    predictions(make_film(5)).write(path)
    predictions([make_frame(1)]).write(str(path))
    assert path.read_text().count("\n") == 2 and [p.name for p in path.parent.iterdir()] == ["clip.CSV"]
