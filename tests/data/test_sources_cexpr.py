"""C-EXPR-DB: films with and without labels per frame."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from femae.data.samples import PictureFile, VideoFrame
from femae.data.sources.cexpr import CExprSource
from femae.errors import DataError
from femae.labels import ABAW_COMPOUNDS, EMOTIONS


@pytest.fixture
def films(layouts: Any, tmp_path: Path, make_video: Any) -> Path:
    """Two films of 9 and 4 frames."""
    root = tmp_path / "cexpr"
    root.mkdir()
    for name, count in (("01", 9), ("02_é", 4)):
        make_video(root / f"{name}.mp4", [layouts.face() for _ in range(count)])
    return root


def test_without_labels_every_frame_is_kept(films: Path, collect: Any) -> None:
    samples, reading = collect(CExprSource(films))
    assert len(samples) == 13 and reading.num_unlabelled == 13 and not reading.excluded
    assert samples["02_é#00004"].picture == VideoFrame(path=films / "02_é.mp4", frame=4)
    assert {sample.group for sample in samples.values()} == {"cexpr/01", "cexpr/02_é"}
    samples, reading = collect(CExprSource(films, every=4))
    assert list(samples) == ["01#00001", "01#00005", "01#00009", "02_é#00001"]
    assert reading.excluded == {"frame passed over (every 4)": 9}


@pytest.mark.parametrize(("end", "bom"), [("\n", False), ("\r\n", True)])
def test_labels_per_film(films: Path, layouts: Any, collect: Any, end: str, bom: bool) -> None:
    lines = ["header", "0", "1", "2", "3", "4", "5", "6", "7", "-1", "3", "3"]
    layouts.text(films / "01.txt", lines, end=end, bom=bom)
    layouts.text(films / "02_é.txt", ["header", "2", "", "x", "9"], end=end, bom=bom)
    samples, reading = collect(CExprSource(films))
    for number, compound in enumerate(ABAW_COMPOUNDS, 1):
        sample = samples[f"01#{number:05d}"]
        assert sample.class_name == compound.name
        assert {EMOTIONS[i] for i in np.flatnonzero(sample.targets)} == set(compound.pair)
    assert sorted(samples)[7:] == ["02_é#00001"]
    assert reading.excluded == {
        "no known label (other)": 1,
        "no known label (unknown)": 1,
        "label beyond the last frame": 2,
        "frame without a label": 1,
        "label is not a number": 1,
        "label is a number that the data set does not define": 1,
    }


def test_labels_in_the_challenges_template(films: Path, layouts: Any, collect: Any, tmp_path: Path) -> None:
    head = "image_location,Fearfully_Surprised,Happily_Surprised"
    rows = [head, "01/00001.jpg,6", "", "01/00003.jpg,1", "nonsense", "01/00012.jpg,1", "09/00001.jpg,0"]
    table = layouts.text(tmp_path / "mine" / "ce.csv", rows)
    samples, reading = collect(CExprSource(films, labels=table))
    assert {key: sample.class_name for key, sample in samples.items()} == {
        "01#00001": "Sadly Angry",
        "01#00003": "Happily Surprised",
    }
    assert reading.excluded == {
        "blank line": 1,
        "wrong number of columns": 1,
        "frame without a label": 7,
        "label beyond the last frame": 1,
        "film without labels": 4,
    }


def test_frames_as_pictures_and_broken_films(layouts: Any, collect: Any, tmp_path: Path) -> None:
    root = tmp_path / "frames"
    for number in (1, 2, 4):
        layouts.picture(root / "07" / f"{number:05d}.jpg")
    layouts.fake_picture(root / "07" / "00002.jpg")
    samples, reading = collect(CExprSource(root))
    assert list(samples) == ["07#00001", "07#00004"]
    assert isinstance(samples["07#00001"].picture, PictureFile)
    assert reading.excluded == {"file is not a picture": 1, "picture file is missing": 1}
    broken = tmp_path / "broken"
    layouts.fake_picture(broken / "01.mp4", b"not a film")
    samples, reading = collect(CExprSource(broken))
    assert not samples and reading.excluded == {"film cannot be opened": 1}


def test_a_folder_without_films_is_said(films: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"01\.mp4"):
        CExprSource(tmp_path / "empty")
    with pytest.raises(DataError, match="no labels"):
        CExprSource(films, labels=tmp_path / "empty")
