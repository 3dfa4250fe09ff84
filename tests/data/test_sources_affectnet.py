"""AffectNet in both layouts."""

from typing import Any

import numpy as np
import pytest

from femae.data.sources.affectnet import AffectNetSource
from femae.errors import DataError
from femae.labels import EMOTIONS

CLASSES = ["neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt"]


def positives(sample: Any) -> list[str]:
    return [EMOTIONS[i] for i in np.flatnonzero(sample.targets)]


@pytest.mark.parametrize(("end", "bom", "header"), [("\n", False, True), ("\r\n", True, True), ("\r\n", False, False)])
def test_csv_layout_in_its_own_order(layouts: Any, collect: Any, end: str, bom: bool, header: bool) -> None:
    root = layouts.affectnet_csv(end=end, bom=bom, header=header)
    samples, reading = collect(AffectNetSource(root))
    for number, name in enumerate(CLASSES):
        sample = samples[f"{number}/{number:04x}.jpg"]
        assert sample.class_name == name and sample.mask.all() and sample.split == "train" and not sample.is_crop
        assert positives(sample) == ([name] if name in EMOTIONS else [])
    assert samples["0/0000.jpg"].box_xyxy == (10, 8, 70, 74)
    assert samples["5/é.jpg"].split == "val" and len(samples) == 9
    assert reading.excluded == {
        "no known label (none)": 1,
        "no known label (uncertain)": 1,
        "the annotators saw no face": 1,
    }
    assert reading.known["fear"] == 9 and reading.positive["disgust"] == 2


def test_csv_layout_keeps_the_unlabelled_on_request_but_never_what_is_no_face(layouts: Any, collect: Any) -> None:
    samples, reading = collect(AffectNetSource(layouts.affectnet_csv(), keep_unlabelled=True))
    assert len(samples) == 11 and reading.num_unlabelled == 2
    assert not samples["8/0008.jpg"].mask.any() and samples["9/0009.jpg"].class_name == "uncertain"
    assert reading.excluded == {"the annotators saw no face": 1}


def test_csv_layout_counts_every_fault_by_cause(layouts: Any, collect: Any) -> None:
    root = layouts.affectnet_csv()
    pictures = root / "Manually_Annotated" / "Manually_Annotated_Images"
    (pictures / "1" / "0001.jpg").unlink()
    layouts.fake_picture(pictures / "2" / "0002.jpg")
    bad = ["", "3/0003.jpg,1,2", "3/x.jpg,,,,,0,happy,0,0", "3/y.jpg,,,,,0,55,0,0", '"open quote,1,1,1,1,1,1,1,1']
    path = root / "training.csv"
    path.write_bytes(path.read_bytes() + "\n".join(bad[:4]).encode() + b"\n6/b\xe9d.jpg,1,1,1,1,1,1,1,1\n")
    samples, reading = collect(AffectNetSource(root))
    assert len(samples) == 7
    assert reading.excluded == {
        "picture file is missing": 1,
        "file is not a picture": 1,
        "blank line": 1,
        "wrong number of columns": 1,
        "label is not a number": 1,
        "label is a number that the data set does not define": 1,
        "name is not UTF-8": 1,
        "no known label (none)": 1,
        "no known label (uncertain)": 1,
        "the annotators saw no face": 1,
    }


def test_automatic_labels_only_on_request(layouts: Any, collect: Any) -> None:
    root = layouts.affectnet_csv()
    text = (root / "training.csv").read_text().splitlines()
    layouts.text(root / "lists" / "automatically_annotated.csv", [text[0], "auto/1.jpg,,,,,,1,0,0"])
    layouts.picture(root / "Automatically_Annotated" / "Automatically_Annotated_Images" / "auto" / "1.jpg")
    assert "auto/1.jpg" not in collect(AffectNetSource(root))[0]
    sample = collect(AffectNetSource(root, automatic=True))[0]["auto/1.jpg"]
    assert sample.class_name == "happiness" and sample.box_xyxy is None


def test_folder_layout(layouts: Any, collect: Any) -> None:
    root = layouts.affectnet_folders()
    train = root / "train_set"
    (train / "annotations" / "0_exp.npy").unlink()
    (train / "annotations" / "1_exp.npy").write_bytes(b"broken")
    (train / "images" / "2.jpg").unlink()
    layouts.fake_picture(train / "images" / "3.jpg")
    layouts.fake_picture(train / "images" / "Thumbs.db")
    np.save(train / "annotations" / "4_exp.npy", np.array(-1))
    samples, reading = collect(AffectNetSource(root))
    assert sorted(samples) == [
        *(f"train_set/images/{n}.jpg" for n in (5, 6, 7)),
        *(f"val_set/images/{n}.jpg" for n in (0, 1)),
    ]
    assert samples["val_set/images/0.jpg"].class_name == "surprise" and samples["val_set/images/0.jpg"].split == "val"
    assert samples["val_set/images/0.jpg"].is_crop
    assert reading.excluded == {
        "annotation file is missing": 1,
        "annotation file cannot be read": 1,
        "picture file is missing": 1,
        "file is not a picture": 1,
        "file of another kind": 1,
        "no known label (unknown)": 1,
    }


def test_no_pickles_are_opened(layouts: Any, collect: Any) -> None:
    root = layouts.affectnet_folders()
    np.save(root / "val_set" / "annotations" / "0_exp.npy", np.array({"a": 1}, dtype=object), allow_pickle=True)
    assert collect(AffectNetSource(root))[1].excluded == {"annotation file cannot be read": 1}


def test_another_layout_is_said(tmp_path: Any) -> None:
    with pytest.raises(DataError, match=r"training\.csv.*train_set/images"):
        AffectNetSource(tmp_path)
