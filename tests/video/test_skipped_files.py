"""Files of a folder that are neither pictures nor films are counted and reported."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from femae.cli import main
from femae.video.discover import discover


@pytest.fixture
def folder(tmp_path: Path, astronaut: np.ndarray) -> Path:
    folder = tmp_path / "mixed"
    folder.mkdir()
    for name in ("a.txt", "b.TXT", "c.docx", "README", ".DS_Store", "Thumbs.db", "desktop.ini"):
        (folder / name).write_text("nothing")
    (folder / "sub").mkdir()
    Image.fromarray(astronaut).save(folder / "photo.png")
    return folder


def test_they_are_counted_once(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(folder), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "4 files skipped, neither pictures nor films: .txt 2, .docx 1, without a suffix 1" in said
    assert main(["predict", str(folder), "--out", str(tmp_path / "out"), "--quiet"]) == 0
    assert "skipped" not in capsys.readouterr().out


def test_nothing_is_said_where_nothing_was_passed_over(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.txt", "b.TXT", "c.docx", "README"):
        (folder / name).unlink()
    assert main(["predict", str(folder), "--out", str(tmp_path / "out")]) == 0
    assert "skipped" not in capsys.readouterr().out


def test_with_films_too_they_are_counted_once(folder: Path, carphone: Path) -> None:
    (folder / "clip.mp4").write_bytes(carphone.read_bytes())
    items = discover([str(folder)])
    assert [item.kind for item in items] == ["pictures", "video"]
    assert sorted(suffix for item in items for suffix in item.skipped) == ["", ".docx", ".txt", ".txt"]
