"""Aff-Wild2, both tracks and folder generations, and s-Aff-Wild2."""

from typing import Any

import numpy as np
import pytest

from femae.data.sources.affwild2 import AffWild2Source, SAffWild2Source
from femae.errors import DataError
from femae.labels import AFFWILD2_AUS, AFFWILD2_OLD_AUS

NO_JPG = "no face in the frame (its jpg is missing)"


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(("end", "bom"), [("\n", False), ("\r\n", True)])
def test_action_units_of_both_generations(layouts: Any, collect: Any, old: bool, end: str, bom: bool) -> None:
    root = layouts.affwild2("au", old=old, end=end, bom=bom)
    samples, reading = collect(AffWild2Source(root, track="au"))
    names = AFFWILD2_OLD_AUS if old else AFFWILD2_AUS
    assert sorted(samples) == [
        f"{film}/{frame:05d}.jpg" for film in ("12-24", "video7_left", "video7_right") for frame in (1, 2, 4)
    ]
    first = samples["12-24/00001.jpg"]
    assert first.action_units == {name: float(n % 3 == 0) for n, name in enumerate(names)}
    assert not first.mask.any() and first.is_crop and first.split == "train"
    assert set(names) - set(samples["12-24/00002.jpg"].action_units) == {"AU01"}  # -1 is unknown, not 0
    assert {sample.group for sample in samples.values()} == {"affwild2/12-24", "affwild2/video7"}
    assert samples["video7_right/00001.jpg"].split == "val"
    assert reading.excluded == {NO_JPG: 3} and reading.source == "affwild2-au"
    assert reading.known["AU01"] == 6 and reading.known["AU02"] == 9


@pytest.mark.parametrize("old", [False, True])
def test_expressions_of_both_generations(layouts: Any, collect: Any, old: bool) -> None:
    samples, reading = collect(AffWild2Source(layouts.affwild2("expr", old=old), track="expr"))
    assert samples["12-24/00001.jpg"].class_name == "happiness"
    assert samples["12-24/00002.jpg"].class_name == "surprise"
    assert np.array_equal(samples["12-24/00002.jpg"].targets, [1, 0, 0, 0, 0, 0])
    assert reading.excluded == {NO_JPG: 3, "no known label (other)": 3}
    kept, reading = collect(AffWild2Source(layouts.root / account_root(old), track="expr", keep_unlabelled=True))
    assert reading.excluded == {NO_JPG: 3} and not kept["12-24/00004.jpg"].mask.any()


def account_root(old: bool) -> str:
    return "affwild2-expr-old" if old else "affwild2-expr"


def test_expression_faults_are_counted_by_cause(layouts: Any, collect: Any) -> None:
    root = layouts.affwild2("expr")
    labels = root / "annotations" / "EXPR_Recognition_Challenge" / "Train_Set"
    # frame 3 has no jpg; 5 is blank; 8 and 9 lie beyond the last jpg; the blank lines at the end are no frames
    layouts.text(labels / "12-24.txt", ["header", "-1", "happy", "4", "12", "", "6", "1", "5", "5", "", ""])
    for frame in (5, 6, 7):
        layouts.picture(root / "cropped_aligned" / "12-24" / f"{frame:05d}.jpg")
    layouts.fake_picture(root / "cropped_aligned" / "12-24" / "00006.jpg")
    layouts.text(labels / "Ärger.txt", ["header", "1"])
    layouts.picture(root / "cropped_aligned" / "Ärger" / "00001.jpg")
    layouts.picture(root / "cropped_aligned" / "Ärger" / "00002.jpg")
    layouts.text(labels / "unseen.txt", ["header", "1", "2", "3"])
    layouts.text(labels / "notes.md", ["x"])
    layouts.text(labels / "empty.txt", [])
    samples, reading = collect(AffWild2Source(root, track="expr"))
    assert [key for key in samples if not key.startswith("video7")] == ["12-24/00007.jpg", "Ärger/00001.jpg"]
    assert reading.excluded == {
        "no known label (unknown)": 1,
        "label is not a number": 1,
        NO_JPG: 3,
        "label is a number that the data set does not define": 1,
        "blank line": 1,
        "file is not a picture": 1,
        "label beyond the last frame": 2,
        "frame beyond the last label": 1,
        "no folder of cropped frames for this film": 4,
        "file of another kind": 1,
        "no known label (other)": 2,
    }
    assert reading.examples["label beyond the last frame"] == ["12-24/00008.jpg", "12-24/00009.jpg"]


def test_action_unit_faults_are_counted_by_cause(layouts: Any, collect: Any) -> None:
    root = layouts.affwild2("au")
    path = root / "annotations" / "AU_Recognition_Challenge" / "Train_Set" / "12-24.txt"
    good = ",".join("1" * 12)
    lines = [good, good.replace("1", "-1"), good, good + ",0", good[:-1] + "2", good[:-1] + "x"]
    layouts.text(path, ["AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26", *lines])
    for frame in (5, 6):
        layouts.picture(root / "cropped_aligned" / "12-24" / f"{frame:05d}.jpg")
    samples, reading = collect(AffWild2Source(root, track="au"))
    assert [key for key in samples if key.startswith("12-24")] == ["12-24/00001.jpg"]
    assert reading.excluded == {
        "every action unit is unknown (-1)": 1,
        NO_JPG: 3,
        "wrong number of action units": 1,
        "action unit is not 0, 1 or -1": 1,
        "label is not a number": 1,
    }


def test_every_second_frame(layouts: Any, collect: Any) -> None:
    samples, reading = collect(AffWild2Source(layouts.affwild2("au"), track="au", every=3))
    assert sorted({key.split("/")[1] for key in samples}) == ["00001.jpg", "00004.jpg"]
    assert reading.excluded == {"frame passed over (every 3)": 6}


def test_a_missing_part_of_the_layout_is_said(layouts: Any, tmp_path: Any) -> None:
    root = layouts.affwild2("au")
    with pytest.raises(DataError, match=r"EXPR labels.*EXPR_Recognition_Challenge"):
        AffWild2Source(root, track="expr")
    (root / "cropped_aligned").rename(root / "frames")
    with pytest.raises(DataError, match="cropped_aligned"):
        AffWild2Source(root, track="au")


@pytest.mark.parametrize(("end", "bom"), [("\n", False), ("\r\n", True)])
def test_s_affwild2_masks_expression_and_units_one_by_one(layouts: Any, collect: Any, end: str, bom: bool) -> None:
    samples, reading = collect(SAffWild2Source(layouts.s_affwild2(end=end, bom=bom)))
    both, units, expression, val = (
        samples[key] for key in ("341/00001.jpg", "341/00002.jpg", "342_left/00001.jpg", "343/00001.jpg")
    )
    assert both.class_name == "happiness" and both.action_units["AU01"] == 1 and len(both.action_units) == 12
    assert not units.mask.any() and len(units.action_units) == 12
    assert expression.class_name == "surprise" and expression.mask.all() and not expression.action_units
    assert expression.group == "affwild2/342"
    assert val.split == "val" and "AU01" not in val.action_units and len(val.action_units) == 11
    assert reading.excluded == {"expression and every action unit are unknown (-1)": 1}


def test_s_affwild2_faults(layouts: Any, collect: Any) -> None:
    root = layouts.s_affwild2()
    path = root / "train_set.txt"
    zeros = ",".join("0" * 12)
    rows = [
        "",
        "341/00001.jpg,1,2",
        f"341/00009.jpg,0,0,4,{zeros}",
        f"not a picture,0,0,4,{zeros}",
        f"é/1.jpg,0,0,4,{zeros}",
    ]
    path.write_text(path.read_text() + "\n".join(rows) + "\n", encoding="utf-8")
    layouts.picture(root / "cropped_aligned" / "é" / "1.jpg")
    layouts.fake_picture(root / "cropped_aligned" / "341" / "00002.jpg")
    samples, reading = collect(SAffWild2Source(root))
    assert "é/1.jpg" in samples
    assert reading.excluded == {
        "expression and every action unit are unknown (-1)": 1,
        "blank line": 1,
        "wrong number of columns": 1,
        "picture file is missing": 1,
        "line without a picture": 1,
        "file is not a picture": 1,
    }
    path.unlink()
    (root / "validation_set.txt").unlink()
    with pytest.raises(DataError, match="16 columns"):
        SAffWild2Source(root)
