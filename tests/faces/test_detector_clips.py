"""The built-in detector on real films; bounds are measured values with a small tolerance for other versions."""

from itertools import islice
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from femae.faces.load import load_detector
from femae.faces.scales import ScaledDetector, choose_long_side
from femae.types import Face

Picture = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def detector() -> ScaledDetector:
    return load_detector()


def some_frames(path: Path, *, count: int, step: int) -> list[Picture]:
    """Every `step`-th picture of a film, at most `count`, as they are stored (rotation tags not applied)."""
    with av.open(str(path)) as container:
        frames = islice(container.decode(video=0), 0, count * step, step)
        return [frame.to_ndarray(format="rgb24") for frame in frames]


def single_scale(detector: ScaledDetector, pictures: list[Picture], known: list[Face]) -> list[list[Face]]:
    """Detect each picture once, at the scale that suits the faces of the first one."""
    height, width = pictures[0].shape[:2]
    smallest = min(float(face.box_xyxy[3] - face.box_xyxy[1]) for face in known)
    return detector.detect(pictures, long_side=choose_long_side(width, height, smallest_face_px=smallest))


def test_a_talking_man(detector: ScaledDetector, carphone: Path) -> None:
    pictures = some_frames(carphone, count=20, step=6)
    searched = detector.detect(pictures)
    assert [len(faces) for faces in searched] == [1] * len(pictures)
    for found in (single_scale(detector, pictures, searched[0]), searched):
        for faces, truth in zip(found, searched, strict=True):
            assert len(faces) == 1
            eyes = float(np.linalg.norm(truth[0].landmarks[1] - truth[0].landmarks[0]))
            assert np.abs(faces[0].landmarks - truth[0].landmarks).max() < 0.35 * eyes
            left_eye, right_eye, _, left_mouth, right_mouth = faces[0].landmarks
            assert left_eye[0] < right_eye[0] and left_mouth[0] < right_mouth[0] and left_eye[1] < left_mouth[1]


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "people", "share"),
    [
        ("asl_small_face_help.mkv", 1, 1.0),
        ("asl_small_face_sorry.mkv", 1, 1.0),
        ("carphone_qcif_distorted.mp4", 1, 1.0),  # strongly compressed: scores from 0.6 on
        ("classroom_small_faces.gif", 4, 1.0),  # 18 to 23 pixels high
        ("grid_bbaf2n.mpg", 1, 1.0),
        ("headpose_man.gif", 1, 1.0),
        ("headpose_two_people.gif", 2, 1.0),
        ("man_smile.mp4", 1, 1.0),
        ("talking_face_franck.mp4", 1, 1.0),
        ("three_people_walking.gif", 3, 1.0),
        ("webcam_man_1.mp4", 1, 1.0),
        ("woman_phone_profile.mp4", 1, 1.0),
        ("hard/four_faces.mp4", 4, 1.0),
        ("hard/gray.mp4", 1, 1.0),
        ("hard/odd_size.mp4", 1, 1.0),
        ("hard/phone_rotated_180.mp4", 1, 1.0),  # upside down here: the face is found, its landmarks are useless
        ("hard/tiny_64x36.mp4", 1, 1.0),
        ("hard/two_faces.mp4", 2, 1.0),
        ("hard/untagged_sideways.mp4", 1, 1.0),
        ("face_then_noface_vfr_hevc.mov", 1, 0.5),  # frames 1 to 72 of 169 show the face
    ],
)
def test_real_clips(shared_data: Path, detector: ScaledDetector, name: str, people: int, share: float) -> None:
    people_leave = share < 1
    pictures = some_frames(shared_data / "videos" / name, count=6, step=27 if people_leave else 9)
    searched = detector.detect(pictures)
    assert sum(len(faces) == people for faces in searched) >= share * len(pictures)
    assert max(len(faces) for faces in searched) <= people
    if not people_leave:
        assert [len(faces) for faces in single_scale(detector, pictures, searched[0])] == [people] * len(pictures)
        boxes = np.stack([face.box_xyxy for face in searched[0]])
        assert len(detector.detect_near(pictures[0], boxes_xyxy=boxes)) == people


@pytest.mark.shared
@pytest.mark.parametrize("name", ["no_face.mp4", "hard/black.mp4"])
def test_films_without_people(shared_data: Path, detector: ScaledDetector, name: str) -> None:
    pictures = some_frames(shared_data / "videos" / name, count=10, step=9)
    assert sum(map(len, detector.detect(pictures))) == 0
    assert sum(map(len, detector.detect(pictures, long_side=640))) == 0


@pytest.mark.shared
def test_a_face_on_its_side_has_landmarks_to_turn_it_by(shared_data: Path, detector: ScaledDetector) -> None:
    """The head points to the left of the picture: one eye above the other, the mouth to their right."""
    for picture in some_frames(shared_data / "videos" / "hard" / "untagged_sideways.mp4", count=5, step=9):
        (face,) = detector.detect([picture])[0]
        left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks
        assert left_eye[1] - right_eye[1] > 40 and abs(left_eye[0] - right_eye[0]) < 25
        assert max(left_eye[0], right_eye[0]) < nose[0] < min(left_mouth[0], right_mouth[0])
