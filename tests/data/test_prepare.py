"""From pictures and films to shards: choice of faces, stored pictures, exclusions and their counts."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from femae.data.prepare.find_faces import box_iou, choose_faces
from femae.data.prepare.run import PrepareResult, PrepareSettings, Workers, prepare
from femae.data.samples import AtlasCell, InlinePicture, PictureFile, PictureRef, RawSample, Reading, VideoFrame
from femae.data.store.manifest import read_manifest
from femae.data.store.shard_reader import ShardReader, decode_picture, load_pictures
from femae.faces.crop import crop_face
from femae.faces.load import load_detector
from femae.types import Face
from femae.video.pictures import read_picture

Pixels = npt.NDArray[np.uint8]


class ListReader:
    """A reader of given samples."""

    def __init__(self, samples: Sequence[RawSample], *, name: str = "set") -> None:
        self.samples = samples
        self.reading = Reading(source=name)

    def __iter__(self) -> Iterator[RawSample]:
        yield from self.samples
        self.reading.excluded["label unknown"] = 2
        self.reading.examples["label unknown"] = ["x.jpg"]


def raw(key: str, picture: PictureRef, **changes: object) -> RawSample:
    values = {"key": key, "picture": picture, "group": key.split("#")[0]}
    return RawSample(**{**values, **changes})  # type: ignore[arg-type]


def labelled(key: str, picture: PictureRef, **changes: object) -> RawSample:
    happy = np.array([0, 0, 0, 1, 0, 0], np.float32)
    return raw(key, picture, targets=happy, mask=np.ones(6, np.bool_), class_name="Happiness", **changes)


def cell(number: int) -> InlinePicture:
    pixels = np.random.default_rng(number).integers(0, 256, 24 * 24, np.uint8)
    return InlinePicture(pixels=pixels.tobytes(), height=24, width=24)


def crops(count: int, *, start: int = 0) -> list[RawSample]:
    return [labelled(f"{n:03d}", cell(n), is_crop=True) for n in range(start, start + count)]


def run(samples: Sequence[RawSample], out: Path, *, num_workers: int = 1, **settings: object) -> PrepareResult:
    return prepare(
        [ListReader(samples)],
        out=out,
        settings=PrepareSettings(**settings),  # type: ignore[arg-type]
        workers=Workers(num=num_workers),
        quiet=True,
    )


def rows_of(out: Path) -> list[dict[str, object]]:
    return list(ShardReader(out).rows())


@pytest.fixture
def portrait(tmp_path: Path, astronaut: Pixels) -> Path:
    path = tmp_path / "raw" / "astronaut.png"
    path.parent.mkdir()
    Image.fromarray(astronaut[:320, 60:380]).save(path)
    return path


def face_at(x1: float, y1: float, x2: float, y2: float, score: float = 0.9) -> Face:
    return Face(box_xyxy=np.array([x1, y1, x2, y2], np.float32), landmarks=None, score=score)


def choose(faces: list[Face], **changes: object) -> tuple[list[Face], str]:
    values = {"width": 100, "height": 100, "box_xyxy": None, "all_faces": False}
    return choose_faces(faces, **{**values, **changes})  # type: ignore[arg-type]


def test_the_data_sets_box_decides_which_face() -> None:
    small, large = face_at(0, 0, 20, 20), face_at(40, 40, 90, 90)
    assert choose([large, small], box_xyxy=(2, 2, 22, 24)) == ([small], "")
    assert choose([large, small], box_xyxy=(0, 60, 20, 80)) == ([], "no face at the data set's own box")
    assert choose([]) == ([], "no face found")


def test_without_a_box_large_and_central_wins() -> None:
    central, corner = face_at(35, 35, 65, 65), face_at(0, 0, 32, 32)
    assert choose([corner, central])[0] == [central]
    huge_off_centre = face_at(0, 10, 60, 70)
    assert choose([central, huge_off_centre])[0] == [huge_off_centre]
    left, right = face_at(10, 40, 30, 60), face_at(70, 40, 90, 60)
    assert choose([right, left])[0] == [left]
    assert choose([right, left, central], all_faces=True)[0] == [central, left, right]


def test_the_middle_of_the_stored_picture_is_what_predict_feeds(tmp_path: Path, portrait: Path) -> None:
    result = run([labelled("a.png", PictureFile(path=portrait))], tmp_path / "out", jpeg_quality=100)
    assert (result.num_pictures, result.num_faces, result.info["num_samples"]) == (1, 1, 1)
    (row,) = rows_of(tmp_path / "out")
    image = np.asarray(Image.open(portrait))
    searched = load_detector(None, num_threads=1).detect(image[None])[0][0]
    face = Face(
        box_xyxy=np.array(row["box_xyxy"], np.float32),
        landmarks=np.array(row["landmarks"], np.float32).reshape(5, 2),
        score=0.9,
    )
    assert box_iou(face.box_xyxy, searched.box_xyxy) > 0.85
    assert row["width"] == row["height"] == 140 and row["margin"] == 1.25
    fed = crop_face(image, face=face, size=112).image
    stored = load_pictures(tmp_path / "out", size=112)[0]
    assert np.abs(stored.astype(int) - fed).max() <= 6  # jpg of quality 100
    assert np.abs(stored.astype(int) - fed).mean() < 0.8


@pytest.mark.parametrize("given", [False, True])
def test_a_small_face_in_a_large_picture_is_found(tmp_path: Path, astronaut: Pixels, given: bool) -> None:
    canvas = np.full((1000, 1400, 3), 90, np.uint8)
    small = np.asarray(Image.fromarray(astronaut[:256, 96:352]).resize((70, 70)))
    canvas[300:370, 800:870] = small
    path = tmp_path / "far.png"
    Image.fromarray(canvas).save(path)
    box = (812.0, 305.0, 850.0, 352.0) if given else None
    run([labelled("far", PictureFile(path=path), box_xyxy=box)], tmp_path / "out")
    (row,) = rows_of(tmp_path / "out")
    x1, y1, x2, y2 = row["box_xyxy"]  # type: ignore[misc]
    assert 800 < x1 < x2 < 870 and 300 < y1 < y2 < 370
    assert 20 < float(row["face_size_px"]) < 50  # type: ignore[arg-type]


def test_a_face_that_fills_its_picture_is_found(tmp_path: Path, astronaut: Pixels) -> None:
    path = tmp_path / "tight.png"
    Image.fromarray(astronaut[62:200, 165:275]).save(path)
    run([labelled("tight", PictureFile(path=path))], tmp_path / "out")
    (row,) = rows_of(tmp_path / "out")
    assert float(row["face_size_px"]) > 80  # type: ignore[arg-type]


def test_faces_smaller_than_asked_for_are_left_out(tmp_path: Path, portrait: Path) -> None:
    result = run([labelled("a", PictureFile(path=portrait))], tmp_path / "out", min_face=300)
    assert result.info["sources"]["set"]["left_out"]["no face found"]["count"] == 1


def test_the_matrix_maps_the_picture_onto_the_stored_one(tmp_path: Path, portrait: Path) -> None:
    run([labelled("a.png", PictureFile(path=portrait))], tmp_path / "out")
    (row,) = rows_of(tmp_path / "out")
    matrix = np.array(row["frame_to_crop"]).reshape(2, 3)
    points = np.array(row["landmarks"]).reshape(5, 2)
    inside = points @ matrix[:, :2].T + matrix[:, 2]
    assert (inside > 20).all() and (inside < 120).all()
    assert inside[0, 0] < inside[1, 0] and inside[0, 1] < inside[3, 1]
    image = np.asarray(Image.open(portrait)).astype(float)
    stored = decode_picture(row["image"]["bytes"]).astype(float)  # type: ignore[index]
    for (x, y), (u, v) in zip(points, inside, strict=True):
        there = image[round(y) - 3 : round(y) + 4, round(x) - 3 : round(x) + 4].mean((0, 1))
        here = stored[round(v) - 3 : round(v) + 4, round(u) - 3 : round(u) + 4].mean((0, 1))
        assert np.abs(there - here).max() < 30


def test_quality_and_labels_stand_in_the_row(tmp_path: Path, portrait: Path) -> None:
    sample = labelled("dir/ä b.png", PictureFile(path=portrait), action_units={"AU12": 1.0}, split="val")
    run([sample], tmp_path / "out")
    (row,) = rows_of(tmp_path / "out")
    manifest = read_manifest(tmp_path / "out")
    assert (row["key"], row["split"], row["group"], row["framing"] != "whole") == (
        "dir/ä b.png",
        "val",
        sample.group,
        True,
    )
    assert manifest.vectors("targets").tolist() == [[0, 0, 0, 1, 0, 0]] and manifest.vectors("mask").all()
    assert manifest.vectors("au_mask").sum() == 1 and manifest.vectors("au_targets").sum() == 1
    assert 60 < float(row["face_size_px"]) < 200 and 0.9 < float(row["detection_score"]) <= 1  # type: ignore[arg-type]
    assert abs(float(row["yaw_deg"])) < 30 and abs(float(row["roll_deg"])) < 20  # type: ignore[arg-type]
    assert row["image"]["path"] == "dir_ä_b.jpg"  # type: ignore[index]


def test_of_several_faces_the_box_decides_and_all_faces_keeps_all(tmp_path: Path, astronaut: Pixels) -> None:
    one = astronaut[:256, 96:352]
    path = tmp_path / "two.png"
    Image.fromarray(np.hstack([one, one[:, ::-1]])).save(path)
    box = (256.0 + 60, 60.0, 256.0 + 180, 210.0)
    run([raw("two", PictureFile(path=path), box_xyxy=box)], tmp_path / "box")
    (row,) = rows_of(tmp_path / "box")
    assert row["box_xyxy"][0] > 256  # type: ignore[index]
    run([raw("two", PictureFile(path=path))], tmp_path / "all", all_faces=True)
    assert [row["key"] for row in rows_of(tmp_path / "all")] == ["two@1", "two@2"]
    run([labelled("two", PictureFile(path=path))], tmp_path / "label", all_faces=True)
    assert [row["key"] for row in rows_of(tmp_path / "label")] == ["two"]


def test_crops_pass_through_untouched(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    paths = [tmp_path / name for name in ("a.jpg", "b.png", "c.bmp", "d.png")]
    for path in paths[:3]:
        Image.fromarray(image).save(path)
    Image.fromarray(np.dstack([image, image[..., :1]])).save(paths[3])  # with alpha
    samples = [raw(path.name, PictureFile(path=path)) for path in paths] + [raw("e", cell(1))]
    run(samples, tmp_path / "out", crops=True)
    rows = {row["key"]: row for row in rows_of(tmp_path / "out")}
    for path in paths[:2]:
        assert rows[path.name]["image"]["bytes"] == path.read_bytes()  # type: ignore[index]
    for path in paths[2:]:
        kept = decode_picture(rows[path.name]["image"]["bytes"])  # type: ignore[index]
        np.testing.assert_array_equal(kept, read_picture(path))
    assert decode_picture(rows["e"]["image"]["bytes"])[..., 0].tobytes() == cell(1).pixels  # type: ignore[index]
    assert all(row["framing"] == "whole" and row["frame_to_crop"] is None for row in rows.values())
    assert (rows["b.png"]["width"], rows["b.png"]["height"], rows["b.png"]["margin"]) == (40, 30, 1.0)


def test_a_turned_crop_keeps_its_bytes_and_is_read_upright(tmp_path: Path) -> None:
    image = np.zeros((20, 40, 3), np.uint8)
    image[:, :20] = 255
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # shown a quarter turn clockwise
    Image.fromarray(image).save(path, exif=exif, quality=100)
    run([raw("turned.jpg", PictureFile(path=path))], tmp_path / "out", crops=True)
    (row,) = rows_of(tmp_path / "out")
    assert row["image"]["bytes"] == path.read_bytes()  # type: ignore[index]
    assert (row["width"], row["height"]) == (20, 40)
    upright = decode_picture(row["image"]["bytes"])  # type: ignore[index]
    assert upright[:15].mean() > 240 and upright[25:].mean() < 15


def test_what_data_sets_call_crops_is_not_detected_unless_asked(tmp_path: Path, portrait: Path) -> None:
    sample = labelled("a", PictureFile(path=portrait), is_crop=True)
    run([sample], tmp_path / "kept")
    run([sample], tmp_path / "found", redetect=True)
    assert rows_of(tmp_path / "kept")[0]["framing"] == "whole"
    assert rows_of(tmp_path / "found")[0]["framing"] != "whole"


def test_every_loss_is_counted_by_cause_with_examples(
    tmp_path: Path, portrait: Path, make_video: Callable[..., Path], astronaut: Pixels
) -> None:
    folder = portrait.parent
    (folder / "text.jpg").write_text("no picture")
    (folder / "cut.png").write_bytes(portrait.read_bytes()[:20_000])
    (folder / "empty.mp4").write_bytes(b"")
    Image.fromarray(np.full((90, 90, 3), 128, np.uint8)).save(folder / "blank.png")
    film = make_video(folder / "short.mp4", [astronaut[:256, 96:352]] * 3)
    samples = [
        raw("good", PictureFile(path=portrait)),
        raw("gone", PictureFile(path=folder / "gone.jpg")),
        raw("text", PictureFile(path=folder / "text.jpg")),
        raw("cut", PictureFile(path=folder / "cut.png")),
        raw("blank", PictureFile(path=folder / "blank.png")),
        raw("far", PictureFile(path=portrait), box_xyxy=(0.0, 280.0, 30.0, 310.0)),
        raw("cell", AtlasCell(path=portrait, left=300, top=300, size=48)),
        raw("inline", InlinePicture(pixels=b"123", height=2, width=2)),
        *(raw(f"short#{n}", VideoFrame(path=film, frame=n)) for n in (1, 3, 4, 9)),
        raw("empty#1", VideoFrame(path=folder / "empty.mp4", frame=1)),
        raw("good", PictureFile(path=portrait)),
    ]
    result = run(samples, tmp_path / "out")
    reading = result.info["sources"]["set"]
    assert {cause: entry["count"] for cause, entry in reading["left_out"].items()} == {
        "film cannot be decoded": 1,
        "frame is beyond the end of the film": 2,
        "no face at the data set's own box": 1,
        "no face found": 1,
        "picture cannot be decoded": 4,
        "picture file is missing": 1,
    }
    assert reading["left_out"]["frame is beyond the end of the film"]["examples"] == ["short#4", "short#9"]
    assert reading["left_out_by_reader"]["label unknown"] == {"count": 2, "examples": ["x.jpg"]}
    assert reading["left_out_by_reader"]["key given twice by the reader"]["count"] == 1
    assert [row["key"] for row in rows_of(tmp_path / "out")] == ["good", "short#1", "short#3"]
    assert reading["num_read"] == 13 and reading["num_left_out"] == 10 and result.num_pictures == 13
    assert str(tmp_path) not in (tmp_path / "out" / "manifest.json").read_text()


def test_films_are_decoded_once_and_frames_keep_their_numbers(
    tmp_path: Path, make_video: Callable[..., Path], astronaut: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    tinted = [np.clip(astronaut[:256, 96:352].astype(int) + 12 * n, 0, 255).astype(np.uint8) for n in range(5)]
    film = make_video(tmp_path / "film.mp4", tinted)
    opened: list[Path] = []
    from femae.data.store import pictures

    whole = pictures.PyAVSource
    monkeypatch.setattr(pictures, "PyAVSource", lambda path, **options: opened.append(path) or whole(path, **options))
    samples = [raw(f"film#{n}", VideoFrame(path=film, frame=n)) for n in (5, 2, 4)]
    run(samples, tmp_path / "out", shard_size=1)
    rows = rows_of(tmp_path / "out")
    assert opened == [film]
    assert [(row["frame"], row["key"]) for row in rows] == [(2, "film#2"), (4, "film#4"), (5, "film#5")]
    means = [decode_picture(row["image"]["bytes"]).mean() for row in rows]  # type: ignore[index]
    assert means[0] < means[1] < means[2]


def test_file_names_that_are_no_utf8_are_written_out(tmp_path: Path) -> None:
    odd = b"caf\xe9".decode("utf-8", "surrogateescape")
    broken = raw(f"{odd} 2", PictureFile(path=tmp_path / odd))
    result = run([raw(odd, cell(0)), broken], tmp_path / "out", crops=True)
    assert [row["key"] for row in rows_of(tmp_path / "out")] == ["caf\\udce9"]
    assert result.info["sources"]["set"]["left_out"]["picture file is missing"]["examples"] == ["caf\\udce9 2"]


@pytest.mark.shared
def test_a_real_film_of_two_people(shared_data: Path, tmp_path: Path) -> None:
    film = shared_data / "videos" / "hard" / "two_faces.mp4"
    samples = [raw(f"two#{n}", VideoFrame(path=film, frame=n)) for n in range(1, 11)]
    result = run(samples, tmp_path / "out", all_faces=True)
    assert result.info["num_samples"] == 20
    centres = {}
    for row in rows_of(tmp_path / "out"):
        box = row["box_xyxy"]
        centres.setdefault(row["frame"], []).append((box[0] + box[2]) / 2)  # type: ignore[index]
    assert all(min(pair) < 360 < max(pair) for pair in centres.values())
