"""Shards and manifests, written and read back, and the quality measures."""

import hashlib
import io
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageFilter

import femae
from femae.data import quality
from femae.data.folds import Folds, write_folds
from femae.data.samples import InlinePicture, PictureFile, RawSample
from femae.data.store.manifest import (
    MANIFEST_SCHEMA,
    ShardFile,
    file_sha256,
    read_manifest,
    write_bytes,
    write_manifest,
)
from femae.data.store.pictures import load_picture
from femae.data.store.shard_reader import ShardReader, decode_picture, frame_picture, load_pictures
from femae.data.store.shards import (
    ACTION_UNITS,
    SHARD_SCHEMA,
    ShardSample,
    ShardWriter,
    action_unit_arrays,
    read_shard_note,
    shard_path,
)
from femae.errors import DataError, LabelError
from femae.labels import EMOTIONS

Pixels = npt.NDArray[np.uint8]


def png(image: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def sample(number: int, image: Pixels, *, source: str = "set", margin: float = 1.0, **changes: object) -> ShardSample:
    data = png(image)
    values = {
        "key": f"face {number}",
        "source": source,
        "group": f"person {number % 3}",
        "split": "train",
        "class_name": "Happiness",
        "image": data,
        "image_path": f"{number}.png",
        "width": image.shape[1],
        "height": image.shape[0],
        "margin": margin,
        "framing": "whole",
        "targets": np.array([0, 0, 0, 0.75, 0, 0.25], np.float32),
        "mask": np.array([True, True, True, True, True, number % 2 == 0]),
        "au_targets": np.zeros(len(ACTION_UNITS), np.float32),
        "au_mask": np.arange(len(ACTION_UNITS)) < 2,
        "face_size_px": 20.0,
        "blur": 0.5,
        "darkness": 0.25,
        "contrast": 0.1,
        "sha256": hashlib.sha256(data).hexdigest(),
        "phash": 2**64 - 1 - number,
    }
    return ShardSample(**{**values, **changes})  # type: ignore[arg-type]


def write_folder(folder: Path, samples: list[ShardSample], *, per_shard: int = 3) -> None:
    shards = []
    for number, start in enumerate(range(0, len(samples), per_shard)):
        part = samples[start : start + per_shard]
        path = shard_path(folder, source=part[0].source, number=number)
        with ShardWriter(path=path) as writer:
            for one in part:
                writer.add(one)
            writer.commit({"fingerprint": str(number), "num_rows": len(part)})
        shards.append(
            ShardFile(
                file=path.name,
                source=part[0].source,
                num_rows=len(part),
                num_bytes=path.stat().st_size,
                sha256=file_sha256(path),
            )
        )
    sources = {shard.source: {"num_left_out": 0, "left_out": {}} for shard in shards}
    write_manifest(folder, shards=shards, settings={"size": 16}, versions={}, per_source=sources)


@pytest.fixture
def pictures() -> list[Pixels]:
    random = np.random.default_rng(3)
    return [random.integers(0, 256, (20, 20, 3), np.uint8) for _ in range(7)]


def test_rows_come_back_as_written(tmp_path: Path, pictures: list[Pixels]) -> None:
    box, points = np.array([1, 2, 3, 4.5], np.float32), np.arange(10, dtype=np.float32).reshape(5, 2)
    extras = {"box_xyxy": box, "landmarks": points, "frame": 7, "yaw_deg": -3.5, "detection_score": 0.9}
    write_folder(tmp_path, [sample(n, image, **(extras if n == 4 else {})) for n, image in enumerate(pictures)])
    rows = list(ShardReader(tmp_path).rows())
    assert [row["key"] for row in rows] == [f"face {n}" for n in range(7)]
    for row, image in zip(rows, pictures, strict=True):
        np.testing.assert_array_equal(decode_picture(row["image"]["bytes"]), image)
    assert rows[4]["box_xyxy"] == box.tolist()
    assert rows[4]["landmarks"] == points.ravel().tolist()
    assert (rows[4]["frame"], rows[4]["yaw_deg"]) == (7, -3.5)
    assert rows[3]["box_xyxy"] is None and rows[3]["frame"] is None and rows[3]["yaw_deg"] is None
    assert rows[6]["phash"] == 2**64 - 7


def test_manifest_has_every_column_but_the_pictures(tmp_path: Path, pictures: list[Pixels]) -> None:
    write_folder(tmp_path, [sample(n, image) for n, image in enumerate(pictures)])
    manifest = read_manifest(tmp_path)
    assert len(manifest) == 7
    assert set(manifest.table.column_names) == (set(SHARD_SCHEMA.names) | {"shard", "row"}) - {"image"}
    assert manifest.strings("shard") == [*["set-00000.parquet"] * 3, *["set-00001.parquet"] * 3, "set-00002.parquet"]
    assert manifest.numbers("row").tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert manifest.vectors("targets").shape == (7, 6) and manifest.vectors("au_mask").shape == (7, len(ACTION_UNITS))
    assert manifest.vectors("mask")[:, 5].tolist() == [True, False, True, False, True, False, True]
    counts = manifest.info["sources"]["set"]
    assert counts["num_samples"] == 7 and counts["num_groups"] == 3 and counts["classes"] == {"Happiness": 7}
    assert counts["labels"]["happiness"] == {"known": 7, "positive": 7, "sum": 5.25}
    assert counts["labels"]["anger"] == {"known": 4, "positive": 0, "sum": 1.0}
    assert list(counts["action_units"]) == ["AU01", "AU02"]
    for shard in manifest.shards:
        data = (tmp_path / "shards" / shard.file).read_bytes()
        assert hashlib.sha256(data).hexdigest() == shard.sha256 and len(data) == shard.num_bytes


def test_a_part_of_a_manifest_keeps_vectors_and_pictures_aligned(tmp_path: Path, pictures: list[Pixels]) -> None:
    write_folder(tmp_path, [sample(n, image) for n, image in enumerate(pictures)])
    part = read_manifest(tmp_path).select(np.arange(7) >= 4)
    assert part.strings("key") == ["face 4", "face 5", "face 6"]
    assert part.vectors("mask")[:, 5].tolist() == [True, False, True]
    loaded = load_pictures(part, size=20)
    np.testing.assert_array_equal(loaded, np.stack(pictures[4:]))


def test_equal_rows_give_equal_bytes(tmp_path: Path, pictures: list[Pixels]) -> None:
    for name in ("a", "b"):
        write_folder(tmp_path / name, [sample(n, image) for n, image in enumerate(pictures)])
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) == 6
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_a_shard_that_is_not_committed_leaves_nothing(tmp_path: Path, pictures: list[Pixels]) -> None:
    path = tmp_path / "set-00000.parquet"
    with pytest.raises(RuntimeError, match="stop"), ShardWriter(path=path) as writer:
        for number in range(300):
            writer.add(sample(number, pictures[0]))
        raise RuntimeError("stop")
    assert list(tmp_path.iterdir()) == []


def test_a_shard_carries_its_note(tmp_path: Path, pictures: list[Pixels]) -> None:
    write_folder(tmp_path, [sample(0, pictures[0])])
    path = tmp_path / "shards" / "set-00000.parquet"
    assert read_shard_note(path) == {"fingerprint": "0", "num_rows": 1}
    metadata = pq.read_schema(path).metadata
    assert json.loads(metadata[b"action_units"]) == list(ACTION_UNITS)
    assert json.loads(metadata[b"emotions"]) == list(EMOTIONS)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="not a complete Parquet file"):
        read_shard_note(path)


def test_hugging_face_datasets_open_the_folder(tmp_path: Path, pictures: list[Pixels]) -> None:
    import datasets  # takes seconds, so not where tests are only collected

    write_folder(tmp_path / "shards here", [sample(n, image) for n, image in enumerate(pictures)])
    cache = str(tmp_path / "cache")
    for opened in (
        datasets.load_dataset(str(tmp_path / "shards here"), split="train", cache_dir=cache),
        datasets.load_dataset(
            "parquet", data_files=str(tmp_path / "shards here" / "shards" / "*.parquet"), split="train", cache_dir=cache
        ),
    ):
        assert isinstance(opened.features["image"], datasets.Image)
        assert len(opened) == 7
        for row, image in zip(opened, pictures, strict=True):
            np.testing.assert_array_equal(np.asarray(row["image"]), image)
            assert len(row["targets"]) == 6 and len(row["au_mask"]) == len(ACTION_UNITS)


def test_hugging_face_datasets_read_the_tables(tmp_path: Path, pictures: list[Pixels]) -> None:
    import datasets

    write_folder(tmp_path / "shards", [sample(n, image) for n, image in enumerate(pictures)])
    manifest, joined = read_manifest(tmp_path / "shards"), np.arange(7, dtype=np.int64)
    write_folds(tmp_path / "folds.parquet", Folds(fold=(joined % 2).astype(np.int8), joined=joined), manifest=manifest)
    seen = femae.predict(pictures[:2], faces="whole")
    seen.write(tmp_path / "predictions.parquet")
    for path in (
        tmp_path / "shards" / "manifest.parquet",
        tmp_path / "folds.parquet",
        tmp_path / "predictions.parquet",
    ):
        opened = datasets.load_dataset(
            "parquet", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache")
        )
        written = pq.read_table(path)
        assert opened.column_names == written.column_names and opened.to_list() == written.to_pylist()
    assert len(opened) == 2 and all(0 < row["happiness"] < 1 for row in opened)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), "is not a folder of shards"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "damaged"),
        (lambda folder: (folder / "manifest.json").write_text('{"format": "other"}'), "not of format"),
        (lambda folder: (folder / "manifest.parquet").write_bytes(b"PAR1"), "damaged"),
    ],
)
def test_a_damaged_manifest_is_said(
    tmp_path: Path, pictures: list[Pixels], spoil: Callable[[Path], object], words: str
) -> None:
    write_folder(tmp_path, [sample(0, pictures[0])])
    spoil(tmp_path)
    with pytest.raises(DataError, match=words):
        read_manifest(tmp_path)


def test_an_unfinished_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text("{}")
    with pytest.raises(DataError, match="not finished"):
        read_manifest(tmp_path)


def test_pictures_come_in_the_order_asked_for(tmp_path: Path, pictures: list[Pixels]) -> None:
    write_folder(tmp_path, [sample(n, image) for n, image in enumerate(pictures)])
    loaded = load_pictures(tmp_path, size=20, positions=[6, 0, 3, 0])
    np.testing.assert_array_equal(loaded, np.stack([pictures[n] for n in (6, 0, 3, 0)]))


def test_rows_beyond_the_first_row_group_are_found(tmp_path: Path, pictures: list[Pixels]) -> None:
    write_folder(tmp_path, [sample(n, np.full((4, 4, 3), n % 256, np.uint8)) for n in range(600)], per_shard=600)
    assert pq.ParquetFile(tmp_path / "shards" / "set-00000.parquet").num_row_groups > 2
    loaded = load_pictures(tmp_path, size=4, positions=[599, 255, 256, 512], gray=True)
    assert loaded[:, 0, 0, 0].tolist() == [599 % 256, 255, 0, 0]


def test_the_middle_of_a_stored_picture_is_the_frame_of_predict() -> None:
    stored = np.random.default_rng(0).integers(0, 256, (140, 140, 3), np.uint8)
    np.testing.assert_array_equal(frame_picture(stored, size=112, stored_margin=1.25), stored[14:126, 14:126])
    np.testing.assert_array_equal(frame_picture(stored, size=140, stored_margin=1.25, margin=1.25), stored)


def test_a_larger_margin_than_stored_mirrors_the_border() -> None:
    stored = np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)
    framed = frame_picture(stored, size=140, stored_margin=1.0, margin=1.25)
    np.testing.assert_array_equal(framed[14:126, 14:126], stored)
    np.testing.assert_array_equal(framed[13, 14:126], stored[0])


def test_gray_pictures_have_one_channel(tmp_path: Path, pictures: list[Pixels]) -> None:
    write_folder(tmp_path, [sample(0, pictures[0])])
    loaded = load_pictures(tmp_path, size=20, gray=True)
    assert loaded.shape == (1, 20, 20, 1)
    assert np.abs(loaded[0, ..., 0] - quality.luma(pictures[0])).max() <= 1


def test_a_damaged_picture_is_named(tmp_path: Path, pictures: list[Pixels]) -> None:
    write_folder(tmp_path, [sample(0, pictures[0]), replace(sample(1, pictures[1]), image=b"not a picture")])
    with pytest.raises(DataError, match="face 1"):
        load_pictures(tmp_path, size=20)


def test_what_is_said_of_a_damaged_picture_names_no_place_in_memory(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^not a readable picture: cannot identify image file$"):
        decode_picture(b"no picture")
    (tmp_path / "a.png").write_bytes(b"no picture")
    loaded = load_picture(PictureFile(path=tmp_path / "a.png"))
    assert loaded.image is None and loaded.detail == "cannot identify image file"


def test_a_missing_shard_is_named(tmp_path: Path, pictures: list[Pixels]) -> None:
    write_folder(tmp_path, [sample(0, pictures[0])])
    (tmp_path / "shards" / "set-00000.parquet").unlink()
    with pytest.raises(DataError, match=r"set-00000\.parquet"):
        load_pictures(tmp_path, size=20)


def test_action_units_have_their_places_and_unknown_ones_are_refused() -> None:
    picture = InlinePicture(pixels=b"0", height=1, width=1)
    targets, mask = action_unit_arrays(
        RawSample(key="a", picture=picture, group="g", action_units={"AU12": 0.5, "AU01": 0.0})
    )
    assert [ACTION_UNITS[i] for i in np.flatnonzero(mask)] == ["AU01", "AU12"]
    assert targets[ACTION_UNITS.index("AU12")] == 0.5
    with pytest.raises(LabelError, match="AU99"):
        action_unit_arrays(RawSample(key="a", picture=picture, group="g", action_units={"AU99": 1.0}))
    assert len(set(ACTION_UNITS)) == len(ACTION_UNITS)


def test_small_files_are_not_touched_when_nothing_changed(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    assert write_bytes(path, b"1")
    before = path.stat().st_mtime_ns
    assert not write_bytes(path, b"1") and path.stat().st_mtime_ns == before
    assert write_bytes(path, b"2") and path.read_bytes() == b"2"


def test_blur_rises_with_blur_and_does_not_depend_on_contrast(astronaut: Pixels) -> None:
    face = Image.fromarray(astronaut[40:210, 140:310])
    values = [quality.blur(np.asarray(face.filter(ImageFilter.GaussianBlur(r)))) for r in (0, 1, 2, 4)]
    assert values == sorted(values) and values[0] < 0.5 < values[-1] < 1
    faded = np.asarray(face) // 3 + 80
    assert quality.blur(faded) == pytest.approx(values[0], abs=0.05)
    assert quality.blur(np.full((50, 50, 3), 9, np.uint8)) == 1


def test_darkness_and_contrast(astronaut: Pixels) -> None:
    face = astronaut[40:210, 140:310]
    assert quality.darkness(np.zeros((9, 9, 3), np.uint8)) == 1
    assert quality.darkness(np.full((9, 9, 3), 255, np.uint8)) == pytest.approx(0, abs=1e-5)
    assert quality.darkness(face // 4) > 0.7 > 0.3 > quality.darkness(face)
    assert quality.contrast(np.full((9, 9, 3), 77, np.uint8)) == pytest.approx(0, abs=1e-6)
    assert quality.contrast(face) > 2 * quality.contrast(face // 4)


def test_face_size_is_the_geometric_mean_of_the_sides() -> None:
    assert quality.face_size_px(np.array([10, 10, 30, 55], np.float32)) == pytest.approx(30)
    assert quality.face_size_px(np.array([10, 10, 5, 20], np.float32)) == 0


def rotated(yaw_deg: float, pitch_deg: float, roll_deg: float) -> npt.NDArray[np.float32]:
    """Five landmarks of the mean face, rotated; yaw to the right of the picture, pitch up, roll clockwise."""
    y, p, r = (math.radians(angle) for angle in (yaw_deg, pitch_deg, -roll_deg))
    turn = np.array([[math.cos(y), 0, math.sin(y)], [0, 1, 0], [-math.sin(y), 0, math.cos(y)]])
    nod = np.array([[1, 0, 0], [0, math.cos(p), math.sin(p)], [0, -math.sin(p), math.cos(p)]])
    tilt = np.array([[math.cos(r), -math.sin(r), 0], [math.sin(r), math.cos(r), 0], [0, 0, 1]])
    face = np.array([[-0.5, 0, 0], [0.5, 0, 0], [0, -0.466, 0.591], [-0.389, -1.069, 0.148], [0.389, -1.069, 0.148]])
    return ((face @ (turn @ nod @ tilt).T)[:, :2] * (40, -40) + 100).astype(np.float32)


@pytest.mark.parametrize("angles", [(0, 0, 0), (30, 0, 0), (0, -20, 0), (0, 0, 25), (-40, 10, -15)])
def test_pose_of_a_turned_mean_face(angles: tuple[float, float, float]) -> None:
    pose = quality.head_pose(rotated(*angles))
    assert pose is not None
    assert (pose.yaw_deg, pose.pitch_deg, pose.roll_deg) == pytest.approx(angles, abs=0.01)


def test_pose_signs_are_those_of_the_docstring() -> None:
    facing_right = rotated(30, 0, 0)
    assert facing_right[2, 0] > facing_right[:2, 0].mean()  # the nose is nearer to the right edge
    clockwise = rotated(0, 0, 20)
    assert clockwise[1, 1] > clockwise[0, 1]  # the right eye is lower in the picture
    assert quality.head_pose(np.full((5, 2), 3, np.float32)) is None


def test_the_schema_says_what_is_in_the_manifest() -> None:
    assert MANIFEST_SCHEMA.names[:2] == ["shard", "row"]
    assert "image" not in MANIFEST_SCHEMA.names
