"""Batches of faces through the network, and redetection where two labels are nearly tied."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pytest

from femae.engine.spec import ModelSpec, Probabilities
from femae.inference.classification import Classifier, TrackedFrame
from femae.labels import ABAW_COMPOUNDS, EMOTIONS
from femae.types import Face, FaceCrop, Frame


class LevelEngine:
    """An engine whose probabilities depend on a crop's gray level: happiness rises with it, sadness falls."""

    spec = ModelSpec(name="level", image_size=4, color="gray", mean=(0.0,), std=(1.0,), emotions=EMOTIONS)
    device = "cpu"

    def __init__(self, strength: float = 1.0) -> None:
        self.batches: list[int] = []
        self._strength = strength

    def run(self, crops: npt.NDArray[np.uint8]) -> Probabilities:
        self.batches.append(len(crops))
        level = crops.mean((1, 2, 3)) / 255
        probs = np.full((len(crops), 6), 0.1, np.float32)
        probs[:, EMOTIONS.index("happiness")], probs[:, EMOTIONS.index("sadness")] = level, 1 - level
        empty = np.zeros((len(crops), 0), np.float32)
        return Probabilities(probs * np.float32(self._strength), empty, empty)


def corner_crop(image: npt.NDArray[np.uint8], face: Face) -> FaceCrop:
    """A crop of the pixels at the box's corner, so that the position of a face decides what the network sees."""
    x, y = face.box_xyxy[:2].astype(int)
    return FaceCrop(face=face, image=image[y : y + 4, x : x + 4], frame_to_crop=np.zeros((2, 3), np.float32))


def face_at(x: float) -> Face:
    return Face(box_xyxy=np.array([x, 0, x + 40, 40], np.float32), landmarks=None, score=0.9)


def frame(index: int) -> Frame:
    """Gray levels rise from left to right; at x = 128 happiness and sadness are equal."""
    ramp = np.tile(np.arange(256, dtype=np.uint8)[None, :, None], (8, 1, 3))
    return Frame(index=index, time_s=index / 25, image=np.ascontiguousarray(ramp), source="ramp")


def classify(frames: list[TrackedFrame], **settings: float) -> tuple[list[str], LevelEngine]:
    engine = LevelEngine()
    classifier = Classifier(engine=engine, cropper=corner_crop, compounds=ABAW_COMPOUNDS, **settings)  # type: ignore[arg-type]
    with ThreadPoolExecutor(2) as pool:
        results = list(classifier.stream(iter(frames), pool=pool, ahead=3))
    assert [result.frame.index for result in results] == [item.frame.index for item in frames]
    return [face.compound for result in results for face in result.faces], engine


def test_faces_of_eight_frames_go_through_the_network_together() -> None:
    labels, engine = classify([TrackedFrame(frame(i), [(1, face_at(200)), (2, face_at(20))]) for i in range(1, 13)])
    assert sorted(engine.batches) == [8, 16]
    assert labels == ["Happily Surprised", "Sadly Surprised"] * 12


def test_a_nearly_tied_interpolated_face_is_looked_at_again() -> None:
    looked: list[int] = []

    def looking(index: int, x: float) -> TrackedFrame:
        def redetect() -> list[Face]:
            looked.append(index)
            return [face_at(x - 4), face_at(200)]  # detection finds it four pixels further left

        return TrackedFrame(frame(index), [(7, face_at(x))], redetect)

    labels, _ = classify([looking(1, 128), looking(2, 200), TrackedFrame(frame(3), [(7, face_at(128))])])
    assert looked == [1]
    assert labels == ["Sadly Surprised", "Happily Surprised", "Happily Surprised"]


@pytest.mark.parametrize(("strength", "expected"), [(1.0, [1]), (0.3, [])])
def test_a_face_that_shows_nothing_is_worth_no_second_look(strength: float, expected: list[int]) -> None:
    """At .3 the six sum to .42: the face is weak, and its compound the largest of small numbers."""
    looked: list[int] = []
    item = TrackedFrame(frame(1), [(1, face_at(128))], lambda: looked.append(1) or [])  # type: ignore[func-returns-value]
    classifier = Classifier(engine=LevelEngine(strength), cropper=corner_crop, compounds=ABAW_COMPOUNDS)
    (result,) = classifier.classify_live(iter([item]))
    assert looked == expected and result.faces[0].weak == (strength < 1)


def test_a_score_near_the_threshold_is_looked_at_again() -> None:
    looked: list[int] = []
    item = TrackedFrame(frame(1), [(1, face_at(200))], lambda: looked.append(1) or [])  # type: ignore[func-returns-value]
    labels, _ = classify([item], threshold=0.89)
    assert looked == [1]
    assert labels in (["Happily Surprised"], [""])


def test_frames_without_faces_and_unreadable_frames_keep_their_status() -> None:
    engine = LevelEngine()
    classifier = Classifier(engine=engine, cropper=corner_crop, compounds=ABAW_COMPOUNDS)
    gone = Frame(index=2, time_s=0.1, image=None, source="ramp", problem="damaged")
    with ThreadPoolExecutor(1) as pool:
        frames = iter([TrackedFrame(frame(1), []), TrackedFrame(gone, [])])
        assert [result.status for result in classifier.stream(frames, pool=pool, ahead=1)] == ["no_face", "unreadable"]
    assert engine.batches == []


@pytest.mark.parametrize("rule", ["sum", "product", "arithmetic", "geometric", "harmonic"])
def test_every_rule_can_be_used(rule: str) -> None:
    labels, _ = classify([TrackedFrame(frame(1), [(1, face_at(240))])], rule=rule)  # type: ignore[arg-type]
    assert labels == ["Happily Surprised"]
