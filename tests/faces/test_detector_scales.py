"""The built-in network on pictures of all sizes, and the choice of scales with a detector of squares."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import psutil
import pytest
from PIL import Image

from femae.faces.load import load_detector
from femae.faces.scales import MAX_LONG_SIDE, ScaledDetector, choose_long_side, search_long_sides
from femae.types import Face

Picture = npt.NDArray[np.uint8]
FACE = np.array([178.0, 57.0, 272.0, 177.0])  # of the astronaut, in pixels of the 512 x 512 picture


@pytest.fixture(scope="module")
def detector() -> ScaledDetector:
    return load_detector()


class Squares:
    """Finds the white square if its side is between 10 and 400 pixels at the given scale."""

    name = "squares"

    def __init__(self, input_hw: tuple[int, int] | None = None) -> None:
        self.input_hw = input_hw
        self.seen: list[tuple[int, ...]] = []

    def detect(self, images: Picture) -> list[list[Face]]:
        self.seen += [image.shape[:2] for image in images]
        if self.input_hw is not None:
            assert all(
                side <= most for image in images for side, most in zip(image.shape[:2], self.input_hw, strict=True)
            )
        return [self._one(image) for image in images]

    def _one(self, image: Picture) -> list[Face]:
        bright = image[..., 1] > 186  # halfway between white and the gray beyond the border
        if not bright.any():
            return []
        rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
        box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)
        side = float(box[2] - box[0])
        if not 10 <= side <= 400:
            return []
        corners = box[[0, 1, 2, 1, 0, 3, 2, 3, 0, 1]].reshape(5, 2)
        return [Face(box_xyxy=box, landmarks=corners, score=0.9 - abs(side - 50) / 1000)]


def square_at(x: int, y: int, *, side: int, width: int, height: int) -> Picture:
    image = np.zeros((height, width, 3), np.uint8)
    image[y : y + side, x : x + side] = 255
    return image


def paste_face(
    canvas: Picture, astronaut: Picture, *, height: float, x: int, y: int, around: float = 1.2
) -> npt.NDArray[np.float64]:
    """Paste the astronaut at (x, y), scaled to a face of `height`; returns the face's box."""
    middle, half = (FACE[:2] + FACE[2:]) / 2, (FACE[3] - FACE[1]) * around / 2
    left, top, right, bottom = (int(max(side, 0)) for side in (*(middle - half), *(middle + half)))
    scale = height / (FACE[3] - FACE[1])
    size = round((right - left) * scale), round((bottom - top) * scale)
    part = Image.fromarray(astronaut[top:bottom, left:right]).resize(size, Image.Resampling.LANCZOS)
    canvas[y : y + size[1], x : x + size[0]] = np.asarray(part)
    return (FACE - np.array([left, top, left, top])) * scale + np.array([x, y, x, y])


def iou(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> float:
    inter = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    return float(inter / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - inter))


def assert_found(faces: list[Face], truth: list[npt.NDArray[np.float64]], *, least: float = 0.6) -> None:
    assert len(faces) == len(truth)
    for box in truth:
        assert max(iou(face.box_xyxy, box) for face in faces) > least


def test_faces_from_24_to_1500_pixels_on_one_canvas(detector: ScaledDetector, astronaut: Picture) -> None:
    canvas = np.full((1850, 2300, 3), (90, 100, 110), np.uint8)
    truth = [
        paste_face(canvas, astronaut, height=height, x=x, y=y, around=around)
        for height, x, y, around in (
            (1500.0, 480, 5, 1.2),
            (300.0, 10, 10, 1.5),
            (120.0, 20, 500, 2.5),
            (60.0, 20, 850, 3.0),
            (36.0, 300, 850, 3.0),
            (24.0, 60, 1150, 3.0),
        )
    ]
    (faces,) = detector.detect([canvas])
    assert_found(faces, truth)
    assert [face.score for face in faces] == sorted((face.score for face in faces), reverse=True)
    (coarse,) = detector.detect([canvas], long_side=640)
    assert len(coarse) < len(truth)  # that is what a search is for
    (fine,) = detector.detect([canvas], long_side=choose_long_side(2300, 1850, smallest_face_px=24))
    assert_found(fine, truth)  # the largest face by the second look, and none of its parts


def test_a_20_pixel_face_in_full_hd_film(detector: ScaledDetector, astronaut: Picture) -> None:
    rows, columns = np.mgrid[:1080, :1920]
    canvas = np.stack([60 + rows // 12, 90 + columns // 24, 160 - rows // 12], axis=2).astype(np.uint8)
    truth = [
        paste_face(canvas, astronaut, height=height, x=x, y=700, around=4.0) for height, x in ((20.0, 400), (90.0, 900))
    ]
    (faces,) = detector.detect([canvas])
    assert_found(faces, truth, least=0.5)
    long_side = choose_long_side(1920, 1080, smallest_face_px=20)
    assert_found(detector.detect([canvas], long_side=long_side)[0], truth, least=0.5)
    known = np.stack([face.box_xyxy for face in faces])
    assert_found(detector.detect_near(canvas, boxes_xyxy=known), truth, least=0.5)


@pytest.mark.parametrize("size", [(64, 36), (96, 96), (176, 144), (640, 640), (4000, 3000)])
def test_one_head_fills_pictures_of_all_sizes(
    detector: ScaledDetector, astronaut: Picture, size: tuple[int, int]
) -> None:
    width, height = size
    part = astronaut[30:230, 225 - round(100 * width / height) : 225 + round(100 * width / height)]
    image = np.asarray(Image.fromarray(part).resize(size, Image.Resampling.LANCZOS))
    (faces,) = detector.detect([image])
    scale = height / 200
    truth = (FACE - np.array([225 - width / height * 100, 30] * 2)) * scale
    assert_found(faces, [truth])


@pytest.mark.parametrize("margin", [0.0, -0.1])
@pytest.mark.parametrize("height", [40, 200, 1500])
def test_a_tight_crop_of_only_a_face(detector: ScaledDetector, astronaut: Picture, height: int, margin: float) -> None:
    """Also with a border that cuts off a tenth on each side."""
    left, top, right, bottom = (FACE + (FACE[3] - FACE[1]) * margin * np.array([-1, -1, 1, 1])).astype(int)
    width = round(height * (right - left) / (bottom - top))
    image = np.asarray(Image.fromarray(astronaut[top:bottom, left:right]).resize((width, height)))
    (faces,) = detector.detect([image])
    assert len(faces) == 1
    face = faces[0]
    assert iou(face.box_xyxy, np.array([0.0, 0, width, height])) > 0.6
    assert face.landmarks is not None and face.landmarks[0, 0] < width / 2 < face.landmarks[1, 0]


@pytest.mark.parametrize("cut", [0.25, 0.4])
@pytest.mark.parametrize("side", ["left", "right", "top", "bottom"])
def test_faces_that_the_border_cuts(detector: ScaledDetector, astronaut: Picture, side: str, cut: float) -> None:
    left, top, right, bottom = FACE
    image = {
        "left": astronaut[:, int(left + cut * (right - left)) :],
        "right": astronaut[:, : int(right - cut * (right - left))],
        "top": astronaut[int(top + min(cut, 0.3) * (bottom - top)) :],
        "bottom": astronaut[: int(bottom - cut * (bottom - top))],
    }[side]
    assert len(detector.detect([image])[0]) == 1


def test_blank_and_odd_pictures_hold_no_face(detector: ScaledDetector) -> None:
    shapes = [(360, 640), (1, 1), (1, 900), (900, 1), (7, 9), (10, 5000)]
    pictures = [np.full((*shape, 3), level, np.uint8) for shape in shapes for level in (0, 120, 255)]
    assert detector.detect(pictures) == [[]] * len(pictures)
    near = np.array([[0, 0, 5, 5], [-90, -90, -20, -20], [3, 3, 3, 3]], np.float32)
    assert all(detector.detect_near(picture, boxes_xyxy=near) == [] for picture in pictures)
    assert detector.detect_near(pictures[0], boxes_xyxy=np.zeros((0, 4), np.float32)) == []


def test_known_faces_are_found_where_they_have_moved(detector: ScaledDetector, astronaut: Picture) -> None:
    truth = detector.detect([astronaut])[0][0]
    for shift in ([0, 0, 0, 0], [20, -10, 20, -10], [-15, 30, -15, 30], [-10, -10, 12, 15]):
        box = (truth.box_xyxy + np.array(shift)).astype(np.float32)
        faces = detector.detect_near(astronaut, boxes_xyxy=box[None])
        assert len(faces) == 1 and iou(faces[0].box_xyxy, truth.box_xyxy) > 0.8
        assert np.abs(faces[0].landmarks - truth.landmarks).max() < 5  # the eyes are 42 pixels apart
    twice = np.stack([truth.box_xyxy, truth.box_xyxy + 5])
    assert len(detector.detect_near(astronaut, boxes_xyxy=twice)) == 1
    assert detector.detect_near(astronaut, boxes_xyxy=np.array([[300, 300, 400, 420]], np.float32)) == []


def test_threads_share_a_detector(detector: ScaledDetector, astronaut: Picture) -> None:
    """A picture's faces are bit-identical, whatever other threads call and whatever else is in the batch."""
    pictures = [astronaut[:400, dx : dx + 400] for dx in range(0, 100, 20)]
    alone = [detector.detect([picture])[0] for picture in pictures]
    near = np.array([[170, 50, 280, 180]], np.float32)
    alone_near = detector.detect_near(astronaut, boxes_xyxy=near)
    with ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(detector.detect, pictures[::-1]) for _ in range(3)]
        near_jobs = [pool.submit(detector.detect_near, astronaut, boxes_xyxy=near) for _ in range(3)]
        results = [job.result()[::-1] for job in jobs]
        near_results = [job.result() for job in near_jobs]
    for found, truth in [(r, alone) for r in results] + [([n], [alone_near]) for n in near_results]:
        for faces, expected in zip(found, truth, strict=True):
            assert len(faces) == len(expected) == 1
            assert faces[0].score == expected[0].score
            np.testing.assert_array_equal(faces[0].box_xyxy, expected[0].box_xyxy)
            np.testing.assert_array_equal(faces[0].landmarks, expected[0].landmarks)


def test_memory_does_not_grow_with_the_number_of_sizes(detector: ScaledDetector) -> None:
    rng = np.random.default_rng(0)
    process = psutil.Process()
    detector.detect([np.zeros((500, 500, 3), np.uint8)], long_side=512)
    rss: list[int] = []
    for _ in range(60):
        height, width = rng.integers(40, 500, 2)
        detector.detect([np.zeros((height, width, 3), np.uint8)], long_side=int(max(height, width)))
        rss.append(process.memory_info().rss)
    assert rss[-1] - rss[15] < 30e6


def test_the_fast_scale_resolves_the_smallest_face() -> None:
    assert choose_long_side(640, 360, smallest_face_px=224) == 320  # half size: the face is 112 pixels there
    assert choose_long_side(640, 360, smallest_face_px=112) == 640
    assert choose_long_side(360, 640, smallest_face_px=50) == 640  # not enlarged for landmarks
    assert choose_long_side(640, 360, smallest_face_px=20) == 1280  # but for being found at all
    assert choose_long_side(320, 240, smallest_face_px=40) == 640
    assert choose_long_side(1920, 1080, smallest_face_px=10) == MAX_LONG_SIDE
    assert choose_long_side(4000, 3000, smallest_face_px=2900) == 160
    assert choose_long_side(4000, 3000, smallest_face_px=9000) == 128
    sizes = [choose_long_side(1280, 720, smallest_face_px=size) for size in range(12, 700)]
    assert sizes == sorted(sizes, reverse=True) and all(size % 32 == 0 for size in sizes)


@pytest.mark.parametrize("size", [(64, 36), (176, 144), (640, 360), (1080, 1920), (4000, 3000)])
def test_a_search_covers_small_to_whole(size: tuple[int, int]) -> None:
    """Each face from 20 pixels (or what the finest scale allows) to the whole picture is shown at 30 to 400 pixels."""
    sides = search_long_sides(*size)
    assert sides == sorted(sides, reverse=True) and sides[0] <= MAX_LONG_SIDE
    smallest = max(20.0, 31.9 * max(size) / MAX_LONG_SIDE)
    for face in np.geomspace(smallest, min(size), 30):
        assert any(30 <= face * side / max(size) <= 400 for side in sides)


def test_a_search_can_be_limited() -> None:
    assert search_long_sides(1920, 1080, max_long_side=1280)[0] == 1280
    assert search_long_sides(4000, 3000, max_long_side=200) == [200, 100]


@pytest.mark.parametrize("side", [16, 40, 120, 300])
def test_places_come_back_in_pixels_of_the_picture(side: int) -> None:
    image = square_at(101, 33, side=side, width=640, height=360)
    truth = [101, 33, 101 + side, 33 + side]
    for options in ({}, {"long_side": 640}, {"long_side": 1000}, {"long_side": 320}):
        (faces,) = ScaledDetector(Squares()).detect([image], **options)
        if side == 16 and options == {"long_side": 320}:
            assert faces == []  # too small at that scale
            continue
        np.testing.assert_allclose(faces[0].box_xyxy, truth, atol=2.5)
        np.testing.assert_allclose(faces[0].landmarks[3], truth[2:], atol=2.5)
    (near,) = ScaledDetector(Squares()).detect_near(image, boxes_xyxy=np.array([truth], np.float32) + 3)
    np.testing.assert_allclose(near.box_xyxy, truth, atol=2.5)


def test_a_known_face_is_brought_to_one_size() -> None:
    squares = Squares()
    box = np.array([[600, 20, 650, 70]], np.float32)  # reaches beyond the right border
    ScaledDetector(squares).detect_near(square_at(600, 20, side=40, width=640, height=360), boxes_xyxy=box)
    assert squares.seen == [(246, 246)]


@pytest.mark.parametrize("input_hw", [(160, 160), (320, 320), (480, 640), (640, 128)])
def test_networks_of_fixed_size_get_pictures_that_fit(input_hw: tuple[int, int]) -> None:
    for width, height in ((640, 360), (300, 1200), (2000, 2000)):
        squares = Squares(input_hw)
        detector = ScaledDetector(squares)
        side = round(min(width, height) * 0.3)
        image = square_at(50, 60, side=side, width=width, height=height)
        truth = np.array([50.0, 60, 50 + side, 60 + side])
        (faces,) = detector.detect([image])
        assert iou(faces[0].box_xyxy, truth) > 0.8
        assert len(squares.seen) == len(set(squares.seen))  # no scale is searched twice
        assert iou(detector.detect([image], long_side=5000)[0][0].box_xyxy, truth) > 0.8
        assert iou(detector.detect_near(image, boxes_xyxy=faces[0].box_xyxy[None])[0].box_xyxy, truth) > 0.8


class Told:
    """A detector that returns given boxes for pictures of each width."""

    name = "told"
    input_hw = None

    def __init__(self, boxes: dict[int, list[tuple[list[float], float]]]) -> None:
        self.boxes = boxes

    def detect(self, images: Picture) -> list[list[Face]]:
        told = self.boxes.get(images.shape[2], [])
        return [
            [Face(box_xyxy=np.array(box, np.float32), landmarks=None, score=score) for box, score in told]
            for _ in images
        ]


def test_a_face_seen_at_one_scale_of_three_is_a_false_alarm() -> None:
    """A search of 400 x 400 pixels uses 640 and 320 (448 with a border of 64 on each side)."""
    image = np.zeros((400, 400, 3), np.uint8)
    real = {640: [([160, 160, 320, 320], 0.9)], 448: [([144, 144, 224, 224], 0.8)]}
    (faces,) = ScaledDetector(Told(real)).detect([image])
    assert len(faces) == 1 and faces[0].score == pytest.approx(0.9) and faces[0].landmarks is None
    np.testing.assert_allclose(faces[0].box_xyxy, [100, 100, 200, 200], atol=1e-3)
    assert ScaledDetector(Told({640: real[640]})).detect([image]) == [[]]
    small = {640: [([160, 160, 200, 200], 0.9)]}  # 20 pixels at the coarse scale: it need not be found there
    assert len(ScaledDetector(Told(small)).detect([image])[0]) == 1
    assert len(ScaledDetector(Told(real)).detect([image], long_side=640)[0]) == 1  # no confirmation needed


def test_parts_of_a_face_too_large_for_a_scale_are_left_out() -> None:
    image = np.zeros((1000, 1000, 3), np.uint8)
    part, beside = ([300.0, 300, 500, 500], 0.99), ([900.0, 10, 980, 90], 0.8)
    whole = ([25.0, 25, 200, 225], 0.75)  # of 250 pixels: 800 pixels high in the picture
    (faces,) = ScaledDetector(Told({1000: [part, beside], 250: [whole]})).detect([image], long_side=1000)
    assert [round(face.score, 2) for face in faces] == [0.8, 0.75]
    small_whole = ([60.0, 60, 140, 160], 0.75)  # 400 pixels high: the fine scale would have seen it whole
    (faces,) = ScaledDetector(Told({1000: [part, beside], 250: [small_whole]})).detect([image], long_side=1000)
    assert len(faces) == 3


def test_only_one_scale_must_reach_the_threshold() -> None:
    image = np.zeros((400, 400, 3), np.uint8)
    fine, coarse = [160.0, 160, 320, 320], [144.0, 144, 224, 224]  # the same place
    for fine_score, coarse_score, number in ((0.9, 0.2, 1), (0.2, 0.9, 1), (0.5, 0.5, 0)):
        told = Told({640: [(fine, fine_score)], 448: [(coarse, coarse_score)]})
        (faces,) = ScaledDetector(told, score_threshold=0.6).detect([image])
        assert [face.score for face in faces] == pytest.approx([max(fine_score, coarse_score)] * number)
    weak_whole = Told({1000: [([300.0, 300, 500, 500], 0.9)], 250: [([25.0, 25, 200, 225], 0.3)]})
    (faces,) = ScaledDetector(weak_whole, score_threshold=0.6).detect(
        [np.zeros((1000, 1000, 3), np.uint8)], long_side=1000
    )
    assert len(faces) == 1  # a weak large face removes nothing


def test_a_weak_sight_does_not_hide_a_known_face() -> None:
    box = np.array([[100, 100, 200, 200]], np.float32)
    told = Told({246: [([66.0, 66, 180, 180], 0.3), ([60.0, 75, 175, 185], 0.9)]})
    (face,) = ScaledDetector(told, score_threshold=0.6).detect_near(np.zeros((400, 400, 3), np.uint8), boxes_xyxy=box)
    assert face.score == pytest.approx(0.9)
