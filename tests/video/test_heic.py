"""Photographs of phones: HEIC and HEIF, with their orientation applied."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from femae.cli import main
from femae.errors import MissingDependencyError
from femae.video.pictures import PictureSource, read_picture

pillow_heif = pytest.importorskip("pillow_heif", reason="needs femae[heic]")


def write(path: Path, picture: np.ndarray, *, orientation: int = 1) -> Path:
    image = Image.fromarray(picture)
    exif = Image.Exif()
    exif[0x0112] = orientation
    pillow_heif.from_pillow(image).save(path, quality=90, exif=exif.tobytes())
    return path


def test_a_folder_of_photos_is_read(astronaut: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "phone"
    folder.mkdir()
    write(folder / "IMG_1.HEIC", astronaut)
    write(folder / "IMG_2.heif", astronaut[:, ::-1])
    Image.fromarray(astronaut).save(folder / "IMG_3.jpg")
    assert main(["predict", str(folder), "--out", str(tmp_path / "out")]) == 0
    rows = (tmp_path / "out" / "phone.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == ["IMG_1.HEIC", "IMG_2.heif", "IMG_3.jpg"]
    assert all(",ok," in row and ",happiness," in row for row in rows)
    assert "skipped" not in capsys.readouterr().out


def test_pixels_and_orientation(astronaut: np.ndarray, tmp_path: Path) -> None:
    plain = read_picture(write(tmp_path / "a.heic", astronaut))
    assert plain.shape == astronaut.shape and np.abs(plain.astype(int) - astronaut).mean() < 3
    upright = read_picture(write(tmp_path / "b.heic", np.rot90(astronaut).copy(), orientation=6))
    assert upright.shape == astronaut.shape and np.abs(upright.astype(int) - astronaut).mean() < 3


def test_damaged_and_missing_package(astronaut: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.heic", astronaut)
    (tmp_path / "half.heic").write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    source = PictureSource([tmp_path / "half.heic", path], name="x")
    assert [frame.image is None for frame in source] == [True, False] and "half.heic" in source.problems[0]
    monkeypatch.setattr("femae.video.pictures.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'femae\[heic\]'"):
        read_picture(path)
    (frame,) = PictureSource([path], name="x")
    assert "pip install 'femae[heic]'" in frame.problem


@pytest.mark.shared
def test_a_photo_of_a_phone(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "videos" / "hard" / "photo.heic"
    if not path.is_file():
        pytest.skip(f"no {path}")
    assert main(["predict", str(path), "--out", str(tmp_path), "--quiet"]) == 0
    assert (tmp_path / "pictures.csv").read_text().count(",ok,") >= 1
