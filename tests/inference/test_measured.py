"""Optional columns: head pose, landmarks, image quality."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageFilter

import femae
from femae.cli import main
from femae.data.quality import blur, head_pose
from femae.errors import ConfigError
from femae.inference.classification import measure_face, measured_names
from femae.types import Face

EVERY = ("pose", "landmarks", "quality")


def test_the_columns_follow_the_contract_and_hold_the_measures(astronaut: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(astronaut).save(tmp_path / "a.png")
    out = tmp_path / "out"
    arguments = ["predict", str(tmp_path / "a.png"), "--out", str(out), "--quiet"]
    assert main([*arguments, "--columns", "quality,pose,landmarks"]) == 0
    table = pd.read_csv(out / "pictures.csv")
    names = list(measured_names(("quality", "pose", "landmarks")))
    assert list(table.columns[-len(names) :]) == names and table.columns[-len(names) - 1] == "AU43"
    row = table.iloc[0]
    x1, y1, x2, y2 = (round(row[name]) for name in ("x1", "y1", "x2", "y2"))
    assert row.face_size_px == pytest.approx(np.sqrt((row.x2 - row.x1) * (row.y2 - row.y1)), abs=0.02)
    assert row.blur == pytest.approx(blur(astronaut[y1:y2, x1:x2]), abs=1e-5)
    assert row.x1 < row.left_eye_x < row.nose_x < row.right_eye_x < row.x2
    assert row.left_eye_y < row.nose_y < row.left_mouth_y < row.y2
    points = [[row[f"{p}_x"], row[f"{p}_y"]] for p in ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")]
    pose = head_pose(np.array(points, np.float32))
    assert pose is not None and row.yaw_deg == pytest.approx(pose.yaw_deg, abs=0.01)
    assert abs(row.roll_deg) < 20 and abs(row.yaw_deg) < 25


def test_a_blurred_dark_and_tilted_picture_says_so(astronaut: np.ndarray) -> None:
    predictor = femae.Predictor(columns="pose,quality")
    names = measured_names(("pose", "quality"))

    def measured(image: Image.Image) -> dict[str, float]:
        (face,) = predictor.predict_image(np.asarray(image)).faces
        return dict(zip(names, face.measured.tolist(), strict=True))

    plain = Image.fromarray(astronaut[:280, 60:360])
    sharp, soft = measured(plain), measured(plain.filter(ImageFilter.GaussianBlur(4)))
    dark, tilted = (
        measured(plain.point(lambda v: v // 3)),
        measured(plain.rotate(-15, resample=Image.Resampling.BILINEAR)),
    )
    assert soft["blur"] > sharp["blur"] + 0.1
    assert dark["darkness"] > sharp["darkness"] + 0.3 and dark["contrast"] < sharp["contrast"]
    assert tilted["roll_deg"] - sharp["roll_deg"] == pytest.approx(15, abs=4)


def test_without_landmarks_and_outside_the_picture_nothing_is_made_up() -> None:
    image = np.zeros((20, 20, 3), np.uint8)
    outside = Face(box_xyxy=np.array([30, 30, 50, 50], np.float32), landmarks=None, score=0.9)
    values = measure_face(image, outside, kinds=EVERY)
    assert len(values) == len(measured_names(EVERY)) == 17
    assert values[13] == 20 and np.isnan(np.delete(values, 13)).all()


def test_nothing_is_added_unless_it_is_asked_for(carphone: Path) -> None:
    plain = femae.Predictor()
    assert plain.schema().names[-1] == plain.engine.spec.au_names[-1] == "AU43"
    with pytest.raises(ConfigError, match=r"columns: 'poses' is not a kind of further columns; did you mean 'pose'"):
        femae.Predictor(columns="poses")


def test_filled_faces_have_no_measures(carphone: Path) -> None:
    from dataclasses import replace

    from femae.inference.temporal import TemporalStage
    from femae.labels import ABAW_COMPOUNDS

    results = list(femae.Predictor(columns="pose").stream(carphone))[:12]
    gone = [replace(r, status="no_face", faces=()) if 4 <= i < 7 else r for i, r in enumerate(results)]
    filled = list(TemporalStage(window_s=0, max_gap_s=1, compounds=ABAW_COMPOUNDS)(iter(gone)))
    assert all(np.isnan(filled[i].faces[0].measured).all() for i in range(4, 7))
    assert not np.isnan(filled[3].faces[0].measured).any() and len(filled[4].faces[0].measured) == 3
