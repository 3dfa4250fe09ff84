"""FER2013 and FER+ in csvs, pictures and atlases; LFW and rendered heads in atlases."""

import re
from typing import Any

import numpy as np
import pytest

from femae.data.samples import AtlasCell, InlinePicture
from femae.data.sources.atlas import LfwSource, Synth3dSource
from femae.data.sources.fer2013 import Fer2013Source, FerPlusSource
from femae.errors import DataError
from femae.labels import EMOTIONS


@pytest.mark.parametrize(("end", "bom"), [("\n", False), ("\r\n", True)])
def test_votes_belong_to_the_row_not_to_the_number_in_the_name(layouts: Any, collect: Any, end: str, bom: bool) -> None:
    root = layouts.fer2013_csv(end=end, bom=bom)
    samples, reading = collect(Fer2013Source(root))
    # the votes of row 4 are called fer0000003.png; the pixels of row 3 must not get them
    rows = (root / "fer2013.csv").read_text(encoding="utf-8-sig").split("\n")[1:]
    happy = samples["fer0000003.png"]
    assert isinstance(happy.picture, InlinePicture)
    assert happy.picture.pixels == bytes(map(int, rows[4].split(",")[1].split()))
    assert happy.class_name == "happiness" and happy.targets[EMOTIONS.index("happiness")] == 1  # unknown not counted
    assert happy.split == "val" and samples["fer0000000.png"].split == "train"
    assert np.allclose(samples["fer0000000.png"].targets, [0, 0.1, 0.3, 0, 0, 0.6])
    assert samples["fer0000002.png"].targets.tolist() == [0.5, 0.5, 0, 0, 0, 0]
    assert reading.excluded == {"half of the annotators see no face": 1, "no known label (unknown)": 1}


def test_without_votes_the_emotion_column_counts(layouts: Any, collect: Any) -> None:
    samples, reading = collect(Fer2013Source(layouts.fer2013_csv(votes=False)))
    names = [sample.class_name for sample in samples.values()]
    assert names == ["anger", "disgust", "fear", "happiness", "sadness", "surprise"] and not reading.excluded
    assert [sample.split for sample in samples.values()] == ["train"] * 4 + ["val", "test"]


def test_csv_faults_are_counted_by_cause(layouts: Any, collect: Any) -> None:
    root = layouts.fer2013_csv(votes=False)
    path = root / "fer2013.csv"
    pixels = path.read_text().split("\n")[1].split(",")[1]
    bad = ["", "0,1 2 3,Training", f"0,x {pixels[4:]},Training", f"9,{pixels},Training", f"0,{pixels}"]
    bad += [f"0,{'300 ' * 2304},Training", f"joy,{pixels},Training"]
    path.write_text(path.read_text() + "\n".join(bad) + "\n\n")
    samples, reading = collect(Fer2013Source(root))
    assert len(samples) == 6
    assert reading.excluded == {
        "blank line": 1,
        "not 48 x 48 pixels": 1,
        "pixels are not numbers": 1,
        "label is a number that the data set does not define": 1,
        "wrong number of columns": 1,
        "a pixel is not in 0..255": 1,
        "label is not a number": 1,
    }


def test_vote_faults_and_files_that_do_not_belong_together(layouts: Any, collect: Any) -> None:
    root = layouts.fer2013_csv()
    path = root / "fer2013new.csv"
    lines = path.read_text().splitlines()
    lines[1] = lines[1].replace("Training", "PublicTest")
    lines[2] = lines[2].replace("2,0,0", "x,0,0")
    lines[3] = re.sub(r"\d(?=,|$)", "0", lines[3].split("png,")[0] + "png,0,0,0,0,0,0,0,0,0,0")
    layouts.text(path, lines)
    _, reading = collect(Fer2013Source(root))
    assert reading.excluded == {
        "Usage differs between the pixels' row and the votes' row": 1,
        "votes are not numbers": 1,
        "votes are negative or all 0": 1,
        "half of the annotators see no face": 1,
        "no known label (unknown)": 1,
    }
    layouts.text(path, lines[:-1])
    with pytest.raises(DataError, match=r"7 rows and fer2013new\.csv 6"):
        Fer2013Source(root)


def test_pictures_are_joined_by_name(layouts: Any, collect: Any) -> None:
    root = layouts.fer2013_pictures()
    part = root / "data" / "FER2013Train"
    layouts.picture(part / "fer0000009.png")
    layouts.fake_picture(part / "readme.txt")
    label = part / "label.csv"
    label.write_text(label.read_text() + 'fer0000008.png,"(0, 0, 48, 48)",0,9,0,0,0,0,0,0,0,0\n\nbroken,1\n')
    samples, reading = collect(Fer2013Source(root))
    assert {key: sample.class_name for key, sample in samples.items()} == {
        "fer0000002.png": "happiness",
        "fer0000003.png": "sadness",
    }
    assert reading.excluded == {
        "no votes for this picture name": 1,
        "file of another kind": 1,
        "picture file is missing": 1,
        "blank line": 1,
        "wrong number of columns": 1,
    }


def test_missing_files_and_columns_are_said(layouts: Any, tmp_path: Any) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(DataError, match=r"fer2013\.csv.*FER2013Train"):
        Fer2013Source(tmp_path / "x")
    layouts.text(tmp_path / "x" / "fer2013.csv", ["emotion,bytes", "1,2"])
    with pytest.raises(DataError, match="pixels, usage"):
        list(Fer2013Source(tmp_path / "x"))


def test_ferplus_atlases(layouts: Any, collect: Any) -> None:
    root = layouts.ferplus()
    samples, reading = collect(FerPlusSource(root))
    assert list(samples) == [f"fer{n:07d}.png" for n in (0, 1, 2, 4)]
    one = samples["fer0000001.png"]
    assert one.picture == AtlasCell(path=root / "atlas_00.png", left=48, top=0, size=48)
    assert np.allclose(one.targets, [0.1, 0, 0, 0.9, 0, 0]) and one.group == "fer2013/copies-4"
    assert samples["fer0000004.png"].split == "test" and one.split == "train"
    assert reading.excluded == {"a test picture that stands in Training too": 1}


def test_atlas_faults_are_counted_by_cause(layouts: Any, collect: Any) -> None:
    root = layouts.lfw()
    path = root / "labels.csv"
    lines = path.read_text(encoding="utf-8").splitlines()
    head = lines[0].split(",")
    good = dict(zip(head, lines[1].split(","), strict=True))
    bad = [good | {"cell": "48"}, good | {"atlas": "3"}, good | {"cell": "x"}, good | {"emotion": "grumpy"}]
    bad += [good | {"emotion": ""}]
    lines += ["", "1,2", *(",".join(row.values()) for row in bad)]
    (root / "lfw_03.jpg").write_bytes(b"no picture")
    layouts.text(path, lines, end="\r\n", bom=True)
    samples, reading = collect(LfwSource(root))
    assert [sample.group for sample in samples.values()] == ["lfw/AJ_Cook", "lfw/AJ_Cook", "lfw/José_Müller"]
    contempt = samples["José_Müller_2.jpg"]
    assert contempt.class_name == "contempt" and contempt.mask.all() and not contempt.targets.any()
    assert reading.excluded == {
        "blank line": 1,
        "wrong number of columns": 1,
        "cell is outside of its atlas": 1,
        "atlas is missing or is not a picture": 1,
        "atlas or cell is not a number": 1,
        "label is not a known word": 1,
        "no known label (unknown)": 1,
    }
    (root / "labels.csv").write_text("atlas,cell\n0,0\n")
    with pytest.raises(DataError, match="lacks the columns name, emotion, person"):
        LfwSource(root)
    (root / "labels.csv").unlink()
    with pytest.raises(DataError, match=r"labels\.csv, lfw_00\.jpg"):
        LfwSource(root)


def test_rendered_heads_have_units_and_sometimes_a_compound(layouts: Any, collect: Any) -> None:
    root = layouts.synth3d()
    samples, reading = collect(Synth3dSource(root))
    compound, mix = samples["00#0"], samples["00#1"]
    assert compound.class_name == "Sadly Angry" and compound.targets.sum() == 2
    assert compound.action_units == {"AU01": 0.75, "AU10": 0.5, "AU12": 0}  # the column AU11 is AU10
    assert not mix.mask.any() and mix.class_name == "" and not reading.excluded
    path = root / "labels.csv"
    path.write_text(path.read_text().replace("0.75", "1.5", 1).replace("0.75", "much"))
    assert collect(Synth3dSource(root))[1].excluded == {
        "action unit is not in 0..1": 1,
        "action unit is not a number": 1,
    }


@pytest.mark.shared
def test_the_shared_atlases_are_read_whole(shared_data: Any) -> None:
    reader = FerPlusSource(shared_data / "ferplus")
    splits = [sample.split for sample in reader]
    assert len(splits) + sum(reader.reading.excluded.values()) == 32_137
    assert reader.reading.excluded["a test picture that stands in Training too"] == 279
    assert splits.count("test") + 279 <= 3_579
    assert sum(1 for _ in LfwSource(shared_data / "lfw")) == 12_758
    assert sum(1 for _ in Synth3dSource(shared_data / "synth3d")) == 3_200
