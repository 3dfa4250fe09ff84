"""The detection schedule: which frames are detected, and what the others get."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from femae.config.predict import DetectConfig
from femae.faces.scales import ScaledDetector
from femae.inference.detection import (
    DetectedFrame,
    blend_faces,
    detect_film,
    detect_pictures,
    keep_faces,
    match_faces,
    whole_pictures,
)
from femae.types import Face, Frame


class BrightSquares:
    """A detector of white squares, which counts its pictures."""

    name = "squares"
    input_hw = None

    def __init__(self) -> None:
        self.num_seen = 0

    def detect(self, images: npt.NDArray[np.uint8]) -> list[list[Face]]:
        self.num_seen += len(images)
        return [self._one(image) for image in images]

    def _one(self, image: npt.NDArray[np.uint8]) -> list[Face]:
        bright = image[..., 1] > 200
        if not bright.any():
            return []
        rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
        box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)
        eye, size = box[:2] + (box[2:] - box[:2]) * 0.3, box[2:] - box[:2]
        points = np.stack([eye, eye + size * [0.4, 0], eye + size * 0.2, eye + size * [0, 0.4], eye + size * 0.4])
        return [Face(box_xyxy=box, landmarks=points.astype(np.float32), score=0.9)]


def film(lefts: list[int | None], *, rate: float = 30.0, level: int = 40) -> Iterator[Frame]:
    """Frames of 320 x 240 with a white square of 60 pixels at x = left (None: none there)."""
    for number, left in enumerate(lefts):
        image = np.full((240, 320, 3), level, np.uint8)
        if left is not None:
            image[80:140, left : left + 60] = 255
        yield Frame(index=number + 1, time_s=number / rate, image=image, source="film")


def run(frames: Iterator[Frame], **settings: float) -> tuple[list[DetectedFrame], int]:
    detector = BrightSquares()
    with ThreadPoolExecutor(2) as pool:
        config = DetectConfig(**settings)  # type: ignore[arg-type]
        found = list(detect_film(frames, detector=ScaledDetector(detector), config=config, pool=pool))
    return found, detector.num_seen


def lefts_of(found: list[DetectedFrame]) -> list[float | None]:
    return [float(item.faces[0].box_xyxy[0]) if item.faces else None for item in found]


def test_frames_between_key_frames_lie_on_a_straight_line() -> None:
    path = list(range(20, 20 + 41 * 2, 2))
    found, num_seen = run(film(path), detect_every=4)
    assert [frame.index for frame, *_ in found] == list(range(1, 42))
    assert lefts_of(found) == pytest.approx(path, abs=1.6)
    assert num_seen < 25  # 11 key frames, one of them at several scales
    landmarks = [faces[0].landmarks for _, faces, _ in found]
    assert all(points is not None for points in landmarks)


def test_every_frame_is_detected_when_asked() -> None:
    found, num_seen = run(film([50] * 30), detect_every=1)
    assert len(found) == 30 and num_seen >= 30


def test_a_face_that_appears_or_leaves_is_placed_on_the_right_frame() -> None:
    path: list[int | None] = [None] * 6 + [100] * 9 + [None] * 6
    found, _ = run(film(path), detect_every=4)
    assert [left is not None for left in lefts_of(found)] == [left is not None for left in path]


def test_a_jump_is_followed_frame_by_frame() -> None:
    path = [20] * 6 + [220] * 7
    found, _ = run(film(path), detect_every=4)
    assert lefts_of(found) == pytest.approx(path, abs=2)


def test_a_cut_between_two_faces_in_one_place_is_not_blended() -> None:
    first, second = list(film([100] * 6)), list(film([104] * 6, level=140))
    frames = first + [
        Frame(index=7 + i, time_s=(6 + i) / 30, image=frame.image, source="film") for i, frame in enumerate(second)
    ]
    found, _ = run(iter(frames), detect_every=4)
    assert lefts_of(found) == pytest.approx([100] * 6 + [104] * 6, abs=0.9)


def test_key_frames_are_near_in_time_even_when_the_film_is_slow() -> None:
    path = [int(100 + 60 * np.sin(i / 1.5)) for i in range(20)]
    found, num_seen = run(film(path, rate=6.0), detect_every=4)
    assert num_seen >= 20  # a sixth of a second is too long to interpolate
    assert lefts_of(found) == pytest.approx(path, abs=1.6)


def test_unreadable_frames_pass_without_faces() -> None:
    frames = list(film([50] * 10))
    frames[4] = Frame(index=5, time_s=4 / 30, image=None, source="film", problem="damaged")
    found, _ = run(iter(frames), detect_every=4)
    assert [len(faces) for _, faces, _ in found] == [1, 1, 1, 1, 0, 1, 1, 1, 1, 1]


def test_the_result_does_not_depend_on_the_number_of_threads() -> None:
    path = [int(40 + 30 * np.sin(i / 5)) for i in range(80)]
    tables = []
    for num_threads in (1, 4):
        with ThreadPoolExecutor(num_threads) as pool:
            stage = detect_film(film(path), detector=ScaledDetector(BrightSquares()), config=DetectConfig(), pool=pool)
            tables.append(np.array([faces[0].box_xyxy for _, faces, _ in stage]))
    np.testing.assert_array_equal(*tables)


class SureAndUnsure(BrightSquares):
    """White squares score high on the left and low on the right."""

    def detect(self, images: npt.NDArray[np.uint8]) -> list[list[Face]]:
        middle = images.shape[2] // 2
        found = []
        for image in images:
            left, right = image.copy(), image.copy()
            left[:, middle:], right[:, :middle] = 0, 0
            sure = [replace(face, score=0.99) for face in self._one(left)]
            found.append(sure + [replace(face, score=0.7) for face in self._one(right)])
        return found


@pytest.mark.parametrize(("shown", "kept"), [((10,), ()), ((10, 11), (10, 11)), ((0,), (0,)), ((29,), (29,))])
def test_an_unsure_face_must_be_seen_twice_where_that_can_be_told(
    shown: tuple[int, ...], kept: tuple[int, ...]
) -> None:
    def frames(rate: float) -> Iterator[Frame]:
        for number, frame in enumerate(film([None if k in (20, 25) else 20 for k in range(30)], rate=rate)):
            assert frame.image is not None
            if number in shown:
                frame.image[80:140, 220:280] = 255
            if number == 25:  # a high-scoring face of one frame is kept
                frame.image[20:80, 60:120] = 255
            yield frame

    for rate, expected in ((30.0, kept), (3.0, shown)):  # frames far apart cannot confirm each other
        with ThreadPoolExecutor(2) as pool:
            search = ScaledDetector(SureAndUnsure())
            found = list(detect_film(frames(rate), detector=search, config=DetectConfig(detect_every=1), pool=pool))
        unsure = [number for number, item in enumerate(found) if any(face.score < 0.9 for face in item.faces)]
        assert unsure == list(expected)
        sure = [number for number, item in enumerate(found) if any(face.score > 0.9 for face in item.faces)]
        assert sure == [number for number in range(30) if number != 20]


def test_small_and_surplus_faces_are_left_out() -> None:
    def face(side: float, x: float) -> Face:
        return Face(box_xyxy=np.array([x, 0, x + side, side * 1.2], np.float32), landmarks=None, score=0.9)

    faces = [face(10, 0), face(30, 50), face(80, 100), face(50, 300)]
    assert keep_faces(faces, DetectConfig(min_face=16)) == faces[1:]
    assert keep_faces(faces, DetectConfig(min_face=0, max_faces=2)) == faces[2:]


def test_faces_match_only_where_it_is_clear() -> None:
    def at(x: float) -> Face:
        return Face(box_xyxy=np.array([x, 0, x + 50, 50], np.float32), landmarks=None, score=0.8)

    assert match_faces([at(0), at(100)], [at(103), at(2)]) is not None
    assert match_faces([at(0)], [at(40)]) is None
    assert match_faces([at(0)], [at(0), at(100)]) is None
    assert match_faces([at(0), at(20)], [at(0), at(20)]) is None  # two overlapping faces
    middle = blend_faces((at(0), at(8)), 0.25)
    assert middle.box_xyxy.tolist() == [2, 0, 52, 50] and middle.landmarks is None


def test_pictures_are_looked_at_one_by_one() -> None:
    frames = [Frame(index=1, time_s=None, image=frame.image, source="p") for frame in film([10, None, 200])]
    with ThreadPoolExecutor(2) as pool:
        stage = detect_pictures(
            iter(frames), detector=ScaledDetector(BrightSquares()), config=DetectConfig(), pool=pool
        )
        assert lefts_of(list(stage)) == [pytest.approx(10, abs=2), None, pytest.approx(200, abs=2)]


def test_whole_pictures_are_their_own_faces() -> None:
    frames = [next(film([1])), Frame(index=1, time_s=None, image=None, source="bad", problem="damaged")]
    (_, faces, _), (_, none, _) = whole_pictures(iter(frames))
    assert faces[0].box_xyxy.tolist() == [0, 0, 320, 240] and np.isnan(faces[0].score) and none == []
