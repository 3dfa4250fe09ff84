"""Pictures of every format and depth are read as upright 8-bit RGB; damaged ones are reported and skipped."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from femae.types import Frame
from femae.video.pictures import PictureSource, read_picture

Picture = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def photo(astronaut: Picture) -> Picture:
    return np.ascontiguousarray(astronaut[40:160, 150:310])  # u8[120, 160, 3]


def difference(a: Picture, b: Picture) -> float:
    assert a.dtype == np.uint8 and a.shape == b.shape
    return float(np.abs(a.astype(int) - b).mean())


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff", ".ppm", ".webp", ".jpg", ".jpeg", ".avif"])
def test_kinds(tmp_path: Path, photo: Picture, suffix: str) -> None:
    path = tmp_path / f"p{suffix}"
    try:
        Image.fromarray(photo).save(path, quality=95)
    except (KeyError, OSError):
        pytest.skip(f"this Pillow does not write {suffix}")
    is_exact = suffix in (".png", ".bmp", ".tif", ".tiff", ".ppm")
    assert difference(read_picture(path), photo) <= (0 if is_exact else 6)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, photo: Picture, orientation: int) -> None:
    """The pixels as stored by a camera for each orientation, by the definition in the EXIF standard."""
    stored = {
        1: photo,
        2: photo[:, ::-1],
        3: photo[::-1, ::-1],
        4: photo[::-1],
        5: photo.transpose(1, 0, 2),
        6: np.rot90(photo, 1),
        7: np.rot90(photo, 2).transpose(1, 0, 2),
        8: np.rot90(photo, -1),
    }[orientation]
    image = Image.fromarray(np.ascontiguousarray(stored))
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / "e.png", exif=exif)
    assert difference(read_picture(tmp_path / "e.png"), photo) == 0


def test_broken_exif_is_passed_over(tmp_path: Path, photo: Picture, recwarn: pytest.WarningsRecorder) -> None:
    Image.fromarray(photo).save(tmp_path / "e.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff broken", quality=95)
    assert difference(read_picture(tmp_path / "e.jpg"), photo) < 6
    assert not recwarn.list


def test_sixteen_bit_gray_is_scaled(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(4, axis=0)
    for name in ("g.png", "g.tif"):
        Image.fromarray(ramp).save(tmp_path / name)
        picture = read_picture(tmp_path / name)
        assert (picture[0, :, 0] == np.arange(256)).all() and (picture[..., 0] == picture[..., 2]).all()


@pytest.mark.parametrize(("top", "dtype"), [(1.0, np.float32), (255.0, np.float32), (255, np.int32), (65535, np.int32)])
def test_other_gray_depths(tmp_path: Path, top: float, dtype: type) -> None:
    ramp = np.linspace(0, top, 256).astype(dtype)[None].repeat(2, axis=0)
    Image.fromarray(ramp).save(tmp_path / "g.tif")
    assert np.abs(read_picture(tmp_path / "g.tif")[0, :, 0].astype(int) - np.arange(256)).max() <= 1


def test_gray_bilevel_palette_and_cmyk(tmp_path: Path, photo: Picture) -> None:
    image = Image.fromarray(photo)
    gray = np.asarray(image.convert("L"))[..., None].repeat(3, axis=2)
    image.convert("L").save(tmp_path / "l.png")
    assert difference(read_picture(tmp_path / "l.png"), gray) == 0
    image.convert("1").save(tmp_path / "1.png")
    assert set(np.unique(read_picture(tmp_path / "1.png"))) == {0, 255}
    image.quantize(256).save(tmp_path / "p.png")
    assert difference(read_picture(tmp_path / "p.png"), photo) < 8
    image.convert("CMYK").save(tmp_path / "c.tif")
    assert difference(read_picture(tmp_path / "c.tif"), photo) < 2


def test_transparent_parts_show_white(tmp_path: Path) -> None:
    rgba = np.zeros((10, 30, 4), np.uint8)
    rgba[:, :10], rgba[:, 10:20] = (10, 20, 30, 255), (10, 20, 30, 0)
    rgba[:, 20:] = (0, 0, 0, 128)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    picture = read_picture(tmp_path / "a.png")
    assert [tuple(picture[5, x]) for x in (5, 15)] == [(10, 20, 30), (255, 255, 255)]
    assert abs(int(picture[5, 25, 0]) - 127) <= 1
    palette = Image.new("P", (8, 8), 3)
    palette.putpalette([0, 0, 0] * 3 + [9, 9, 9])
    palette.save(tmp_path / "t.png", transparency=3)
    assert (read_picture(tmp_path / "t.png") == 255).all()


def test_source_gives_one_frame_for_each_picture(tmp_path: Path, photo: Picture) -> None:
    paths = [tmp_path / name for name in ("a.png", "b.png")]
    for path in paths:
        Image.fromarray(photo).save(path)
    with PictureSource(paths, name="album") as source:
        frames = list(source)
        assert source.problems == [] and source.info.name == "album" and source.info.num_frames == 2
    assert [(f.index, f.time_s, f.source) for f in frames] == [(1, None, "a.png"), (1, None, "b.png")]


def test_two_pictures_of_one_name_keep_their_folders(tmp_path: Path, photo: Picture) -> None:
    paths = [tmp_path / folder / "x.png" for folder in ("one", "two")]
    for path in paths:
        path.parent.mkdir()
        Image.fromarray(photo).save(path)
    assert [frame.source for frame in PictureSource(paths, name="pictures")] == [path.as_posix() for path in paths]


def test_unreadable_pictures_are_said_and_passed_over(
    tmp_path: Path, photo: Picture, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    def write(name: str, spoil: Callable[[bytes], bytes]) -> Path:
        path = tmp_path / name
        Image.fromarray(photo).save(path, "jpeg" if name.endswith("jpg") else "png")
        path.write_bytes(spoil(path.read_bytes()))
        return path

    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 120 * 160)  # warns above, refuses above twice as many
    large = tmp_path / "bomb.png"
    Image.new("RGB", (400, 400)).save(large)
    rather_large = tmp_path / "large.png"
    Image.new("RGB", (150, 160)).save(rather_large)
    cases = {
        "missing.png": (tmp_path / "missing.png", "does not exist"),
        "empty.png": (write("empty.png", lambda data: b""), "is empty (0 bytes)"),
        "text.png": (write("text.png", lambda data: b"no picture at all"), "an unknown kind of file"),
        "cut.jpg": (write("cut.jpg", lambda data: data[: len(data) // 2]), "damaged or incomplete"),
        "cut.png": (write("cut.png", lambda data: data[: len(data) // 2]), "damaged or incomplete"),
        "bomb.png": (large, "million pixels"),
    }
    good = write("good.png", lambda data: data)
    source = PictureSource([*(path for path, _ in cases.values()), rather_large, good], name="mixed")
    frames: list[Frame] = list(source)
    for frame, (path, reason) in zip(frames, cases.values(), strict=False):
        assert frame.image is None and frame.source == path.name
        assert reason in frame.problem and path.name in frame.problem and "\n" not in frame.problem
    assert frames[-2].image is not None and frames[-1].image is not None
    assert len(source.problems) == 1 and source.problems[0].startswith("6 of 8 pictures could not be read")
    assert not recwarn.list
    assert len(list(source)) == 8 and len(source.problems) == 1  # a second pass does not count twice
