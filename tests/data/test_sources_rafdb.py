"""RAF-DB basic and compound."""

from typing import Any

import numpy as np
import pytest

from femae.data.sources.rafdb import RafDbSource
from femae.errors import DataError
from femae.labels import EMOTIONS, RAF_DB_COMPOUNDS

BASIC = ["surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral"]


@pytest.mark.parametrize(("end", "bom"), [("\n", False), ("\r\n", True)])
def test_basic_part_in_its_own_order(layouts: Any, collect: Any, end: str, bom: bool) -> None:
    samples, reading = collect(RafDbSource(layouts.rafdb("basic", end=end, bom=bom), part="basic"))
    for number, name in enumerate(BASIC, 1):
        sample = samples[f"train_{number:05d}.jpg"]
        assert sample.class_name == name and sample.split == "train" and sample.is_crop and sample.mask.all()
        assert [EMOTIONS[i] for i in np.flatnonzero(sample.targets)] == [name] * (name != "neutral")
    assert samples["test_0001.jpg"].split == "test" and reading.num_groups == 8 and not reading.excluded


def test_compound_labels_set_their_two_emotions(layouts: Any, collect: Any) -> None:
    samples, _ = collect(RafDbSource(layouts.rafdb("compound") / "compound", part="compound"))
    for number, compound in enumerate(RAF_DB_COMPOUNDS, 1):
        sample = samples[f"train_{number:05d}.jpg"]
        assert sample.class_name == compound.name and sample.targets.sum() == 2 and sample.mask.all()
        assert {EMOTIONS[i] for i in np.flatnonzero(sample.targets)} == set(compound.pair)


def test_faults_are_counted_by_cause(layouts: Any, collect: Any) -> None:
    root = layouts.rafdb("basic")
    path = root / "basic" / "EmoLabel" / "list_patition_label.txt"
    lines = path.read_text().splitlines()
    lines[1:2] = ["", "train_00002.jpg", "train_00002.jpg 9", "train_00002.jpg x", "Größe 1.jpg 4"]
    layouts.text(path, lines)
    aligned = root / "basic" / "Image" / "aligned"
    layouts.picture(aligned / "Größe 1_aligned.jpg")
    (aligned / "train_00003_aligned.jpg").unlink()
    layouts.fake_picture(aligned / "train_00004_aligned.jpg")
    samples, reading = collect(RafDbSource(root, part="basic"))
    assert samples["Größe 1.jpg"].class_name == "happiness" and samples["Größe 1.jpg"].split == ""
    assert reading.excluded == {
        "blank line": 1,
        "wrong number of columns": 1,
        "label is a number that the data set does not define": 1,
        "label is not a number": 1,
        "picture file is missing": 1,
        "file is not a picture": 1,
    }


def test_whole_photographs_on_request(layouts: Any, collect: Any) -> None:
    root = layouts.rafdb("basic")
    for number in range(1, 8):
        layouts.picture(root / "basic" / "Image" / "original" / f"train_{number:05d}.jpg")
    samples, reading = collect(RafDbSource(root, part="basic", pictures="original"))
    assert len(samples) == 7 and not samples["train_00001.jpg"].is_crop
    assert reading.excluded == {"picture file is missing": 1}


def test_missing_parts_are_said(layouts: Any) -> None:
    root = layouts.rafdb("basic")
    with pytest.raises(DataError, match=r"compound part.*list_patition_label"):
        RafDbSource(root / "basic", part="compound")
    with pytest.raises(DataError, match="original"):
        RafDbSource(root, part="basic", pictures="original")
