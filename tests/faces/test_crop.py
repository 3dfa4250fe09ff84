"""Crops: the place of the square, the matrix, resampling without aliasing."""

import json
import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from femae.errors import ConfigError, InputError, ModelError
from femae.faces.crop import FERPLUS_FRAMING, Framing, crop_face, crop_square, whole_crop
from femae.types import Face

Picture = npt.NDArray[np.uint8]
UPRIGHT = Framing(keep_roll_deg=0)


def make_face(x: float, y: float, *, side: float = 100.0, roll_deg: float = 0.0, shift: float = 0.0) -> Face:
    """A face around (x, y) with an upright box and landmarks rotated by roll_deg; `shift` moves the eyes."""
    half = side / 2 * np.array([0.84, 1.19])
    box = np.array([x - half[0], y - half[1], x + half[0], y + half[1]], np.float32)
    points = side * np.array([[-0.19, -0.13], [0.19, -0.13], [0, 0.08], [-0.15, 0.27], [0.15, 0.27]])
    cos, sin = math.cos(math.radians(roll_deg)), math.sin(math.radians(roll_deg))
    turned = points @ np.array([[cos, sin], [-sin, cos]]) + (x + shift * side, y)
    return Face(box_xyxy=box, landmarks=turned.astype(np.float32), score=0.9)


def smooth_picture(height: int, width: int, *, seed: int = 0) -> Picture:
    """A smooth random picture u8[height, width, 3]."""
    small = np.random.default_rng(seed).integers(0, 255, (height // 24 + 2, width // 24 + 2, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def apply(matrix: npt.NDArray[np.float32], points: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    return points.astype(np.float64) @ matrix[:, :2].T.astype(np.float64) + matrix[:, 2].astype(np.float64)


def with_dots(points: npt.NDArray[np.float32], *, height: int, width: int, radius: float) -> Picture:
    """A gray picture with a soft bright dot at each point (continuous coordinates), in R, G, B in turn."""
    y, x = np.mgrid[:height, :width] + 0.5
    picture = np.full((height, width, 3), 40.0)
    for number, point in enumerate(points):
        distance = ((x - point[0]) ** 2 + (y - point[1]) ** 2) / radius**2
        picture[..., number % 3] += 200 * np.exp(-distance)
    return picture.clip(0, 255).astype(np.uint8)


def dot_centre(picture: Picture, channel: int) -> npt.NDArray[np.float64]:
    """Centroid (x, y) of the pixels brighter than the background, in continuous coordinates."""
    weight = np.clip(picture[..., channel].astype(float) - 60, 0, None)
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]] + 0.5
    return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()


# ---- place of the square


def test_a_frontal_face_lies_as_the_constants_say() -> None:
    face = make_face(300, 200)
    centre, side, angle = crop_square(face)
    box_side = 100 * math.sqrt(0.84 * 1.19)
    assert side == pytest.approx(1.06 * box_side, rel=1e-6)
    assert angle == 0
    eyes_y, box_y = 200 - 13, 200
    assert centre == pytest.approx([300, (eyes_y + box_y) / 2 + 0.055 * side], rel=1e-5)


def test_without_landmarks_the_box_decides() -> None:
    box = np.array([10, 20, 90, 140], np.float32)
    centre, side, angle = crop_square(Face(box_xyxy=box, landmarks=None, score=1.0))
    assert centre == pytest.approx([50, 80]) and angle == 0
    assert side == pytest.approx(1.06 * math.sqrt(80 * 120))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e6])
def test_landmarks_that_cannot_be_are_not_used(bad: float) -> None:
    face = make_face(300, 200, roll_deg=40)
    assert face.landmarks is not None
    points = face.landmarks.copy()
    points[3] = bad
    broken = Face(box_xyxy=face.box_xyxy, landmarks=points, score=0.9)
    plain = Face(box_xyxy=face.box_xyxy, landmarks=None, score=0.9)
    assert crop_square(broken)[0].tolist() == crop_square(plain)[0].tolist()
    assert crop_square(broken)[1:] == crop_square(plain)[1:]


@given(roll_deg=st.floats(-179, 179), keep=st.floats(0, 180))
def test_what_exceeds_the_kept_roll_is_turned_back(roll_deg: float, keep: float) -> None:
    _, _, angle = crop_square(make_face(300, 200, roll_deg=roll_deg), framing=Framing(keep_roll_deg=keep))
    assert math.degrees(angle) == pytest.approx(math.copysign(max(0, abs(roll_deg) - keep), roll_deg), abs=1e-3)


@pytest.mark.parametrize("roll_deg", [-50.0, 20.0, 90.0])
def test_a_turned_square_hangs_from_the_eyes_as_an_upright_one_does(roll_deg: float) -> None:
    framing = Framing(keep_roll_deg=0, eyes_weight=1, below_eyes=0.2)
    upright, turned = make_face(200, 150), make_face(200, 150, roll_deg=roll_deg)
    (x, y), side, _ = crop_square(upright, framing=framing)
    assert upright.landmarks is not None and turned.landmarks is not None
    eyes = upright.landmarks[:2].mean(0)
    assert (x, y) == pytest.approx((eyes[0], eyes[1] + 0.2 * side), abs=1e-3)
    centre, _, angle = crop_square(turned, framing=framing)
    down = np.array([-math.sin(angle), math.cos(angle)])  # of the head
    assert centre == pytest.approx(turned.landmarks[:2].mean(0) + 0.2 * side * down, abs=1e-3)
    assert angle == pytest.approx(math.radians(roll_deg), abs=1e-3)


def test_the_roll_of_a_head_seen_from_the_side_comes_from_its_mouth() -> None:
    """Both eyes almost coincide, in reversed order: the line from eyes to mouth decides."""
    box = np.array([0, 0, 84, 119], np.float32)
    points = np.array([[41, 40], [39, 42], [20, 60], [40, 90], [40, 91]], np.float32)
    _, _, angle = crop_square(Face(box_xyxy=box, landmarks=points, score=0.9), framing=UPRIGHT)
    assert abs(math.degrees(angle)) < 8


@given(
    x=st.floats(-50, 500),
    y=st.floats(-50, 500),
    side=st.floats(5, 400),
    roll_deg=st.floats(-170, 170),
    zoom=st.floats(0.2, 5),
)
def test_an_enlarged_frame_has_the_same_square_enlarged(
    x: float, y: float, side: float, roll_deg: float, zoom: float
) -> None:
    face = make_face(x, y, side=side, roll_deg=roll_deg)
    assert face.landmarks is not None
    large = Face(
        box_xyxy=(face.box_xyxy * zoom).astype(np.float32),
        landmarks=(face.landmarks * zoom).astype(np.float32),
        score=0.9,
    )
    centre, length, angle = crop_square(face, framing=UPRIGHT)
    large_centre, large_length, large_angle = crop_square(large, framing=UPRIGHT)
    assert large_length == pytest.approx(length * zoom, rel=1e-3)
    assert large_centre == pytest.approx(centre * zoom, rel=1e-3, abs=1e-2 * length * zoom)
    assert math.cos(large_angle - angle) == pytest.approx(1, abs=1e-4)


# ---- the matrix


@settings(deadline=None, max_examples=60)
@given(
    x=st.floats(0, 640),
    y=st.floats(0, 480),
    side=st.floats(8, 600),
    roll_deg=st.floats(-179, 179),
    size=st.integers(1, 200),
)
def test_the_matrix_equals_an_independent_computation(
    x: float, y: float, side: float, roll_deg: float, size: int
) -> None:
    """With complex numbers: a point's offset from the centre, rotated back and scaled, plus size / 2."""
    face = make_face(x, y, side=side, roll_deg=roll_deg)
    assert face.landmarks is not None
    crop = crop_face(np.zeros((480, 640, 3), np.uint8), face=face, size=size)
    centre, length, angle = crop_square(face)
    offsets = face.landmarks.astype(np.float64) @ [1, 1j] - complex(*centre)
    expected = offsets * np.exp(-1j * angle) * (size / length) + (size / 2) * (1 + 1j)
    assert apply(crop.frame_to_crop, face.landmarks) @ [1, 1j] == pytest.approx(expected, abs=1e-3 * size)
    assert crop.face is face and crop.image.shape == (size, size, 3)


@pytest.mark.parametrize("side", [30.0, 47.0, 80.0, 150.0, 300.0, 600.0])
@pytest.mark.parametrize("roll_deg", [0.0, 4.0, 33.0, -75.0, 170.0])
@pytest.mark.parametrize("size", [48, 112])
def test_planted_dots_are_found_where_the_matrix_says(side: float, roll_deg: float, size: int) -> None:
    face = make_face(401.3, 377.7, side=side, roll_deg=roll_deg)
    assert face.landmarks is not None
    dots = face.landmarks[[0, 1, 4]]
    crop = crop_face(with_dots(dots, height=760, width=800, radius=0.06 * side), face=face, size=size)
    expected = apply(crop.frame_to_crop, dots)
    for channel in range(3):
        assert dot_centre(crop.image, channel) == pytest.approx(expected[channel], abs=max(0.12, 0.004 * size))


def test_upright_crops_have_level_eyes() -> None:
    face = make_face(300, 300, roll_deg=50, side=160)
    assert face.landmarks is not None
    matrix = crop_face(smooth_picture(600, 600), face=face, size=96, framing=UPRIGHT).frame_to_crop
    left_eye, right_eye, _, left_mouth, _ = apply(matrix, face.landmarks)
    assert left_eye[1] == pytest.approx(right_eye[1], abs=0.1) and left_eye[0] < right_eye[0]
    assert left_mouth[1] > left_eye[1]


# ---- resampling


@pytest.mark.parametrize("roll_deg", [0.0, 20.0, 45.0])
@pytest.mark.parametrize("side", [120.0, 240.0, 400.0, 1200.0])
def test_a_fine_checkerboard_becomes_gray(side: float, roll_deg: float) -> None:
    board = ((np.indices((1500, 1500)).sum(0) % 2) * 255).astype(np.uint8)[..., None].repeat(3, 2)
    crop = crop_face(board, face=make_face(750, 750, side=side, roll_deg=roll_deg), size=48).image.astype(int)
    assert np.abs(crop - 127).max() <= 30 and crop.std() <= 9 and abs(crop.mean() - 127.5) < 1.5


@pytest.mark.parametrize("roll_deg", [0.0, 30.0])
@pytest.mark.parametrize("side", [20.0, 60.0, 100.0, 237.0, 238.0, 500.0])
def test_a_uniform_frame_gives_a_uniform_crop(side: float, roll_deg: float) -> None:
    frame = np.full((300, 400, 3), (10, 200, 77), np.uint8)
    crop = crop_face(frame, face=make_face(200, 150, side=side, roll_deg=roll_deg), size=48)
    assert (crop.image == (10, 200, 77)).all()


@pytest.mark.parametrize("size", [1, 2, 47, 48, 224])
def test_sizes(size: int) -> None:
    crop = crop_face(smooth_picture(200, 200), face=make_face(100, 100, side=90, roll_deg=25), size=size)
    assert crop.image.shape == (size, size, 3) and crop.image.dtype == np.uint8


@settings(deadline=None, max_examples=40)
@given(
    x=st.floats(90, 200),
    y=st.floats(90, 200),
    side=st.floats(40, 130),
    roll_deg=st.one_of(st.just(0.0), st.floats(-60, 60)),
    zoom=st.sampled_from([2, 3]),
)
def test_a_crop_of_the_enlarged_frame_equals_the_crop(
    x: float, y: float, side: float, roll_deg: float, zoom: int
) -> None:
    frame = smooth_picture(300, 300)
    large = np.asarray(Image.fromarray(frame).resize((300 * zoom, 300 * zoom), Image.Resampling.BICUBIC))
    face = make_face(x, y, side=side, roll_deg=roll_deg)
    large_face = make_face(x * zoom, y * zoom, side=side * zoom, roll_deg=roll_deg)
    small_crop = crop_face(frame, face=face, size=48).image.astype(int)
    large_crop = crop_face(large, face=large_face, size=48).image.astype(int)
    difference = np.abs(small_crop - large_crop)
    assert difference.mean() < 1.0 and difference.max() <= 10


def test_a_turned_crop_is_as_sharp_as_a_straight_one(astronaut: Picture) -> None:
    """The two ways of resampling agree at the angle 0 up to an invisible difference."""
    box = np.array([177.7, 56.9, 273.1, 177.3], np.float32)
    points = np.array([[205, 101], [247, 101], [226, 129], [206, 141], [246, 141]], np.float32)
    for zoom in (0.4, 1.0, 2.0, 4.0):
        size = round(512 * zoom)
        frame = np.asarray(Image.fromarray(astronaut).resize((size, size), Image.Resampling.LANCZOS))
        turn = np.array([0, 0.01])  # of one eye; far less than a degree
        face = Face(box_xyxy=box * zoom, landmarks=points * zoom, score=1.0)
        moved = (points + np.outer([0, 1, 0, 0, 0], turn)) * zoom
        turned = Face(box_xyxy=box * zoom, landmarks=moved.astype(np.float32), score=1.0)
        straight_crop = crop_face(frame, face=face, size=48, framing=UPRIGHT)
        turned_crop = crop_face(frame, face=turned, size=48, framing=UPRIGHT)
        assert straight_crop.frame_to_crop[0, 1] == 0 and turned_crop.frame_to_crop[0, 1] != 0
        difference = np.abs(straight_crop.image.astype(int) - turned_crop.image.astype(int))
        assert difference.mean() < 2.0


# ---- borders


@pytest.mark.parametrize("roll_deg", [0.0, 40.0])
@pytest.mark.parametrize("side", [60.0, 400.0])
def test_beyond_the_border_the_frame_is_mirrored(side: float, roll_deg: float) -> None:
    """A face half outside the frame: the crop equals one from a frame padded by mirroring."""
    frame = smooth_picture(500, 500, seed=3)
    pad = 500
    padded = np.pad(frame, ((pad, pad), (pad, pad), (0, 0)), mode="symmetric")
    face, moved = (
        make_face(12, 480, side=side, roll_deg=roll_deg),
        make_face(12 + pad, 480 + pad, side=side, roll_deg=roll_deg),
    )
    crop, expected = crop_face(frame, face=face, size=48), crop_face(padded, face=moved, size=48)
    difference = np.abs(crop.image.astype(int) - expected.image.astype(int))
    assert difference.max() <= 4
    centre, _, _ = crop_square(face)
    assert apply(crop.frame_to_crop, centre[None].astype(np.float32))[0] == pytest.approx([24, 24], abs=1e-2)


@settings(deadline=None, max_examples=60)
@given(
    x=st.floats(-3000, 3000),
    y=st.floats(-3000, 3000),
    side=st.floats(0.01, 180),
    roll_deg=st.floats(-180, 180),
    height=st.integers(1, 90),
    width=st.integers(64, 90),
)
def test_any_face_gives_a_crop(x: float, y: float, side: float, roll_deg: float, height: int, width: int) -> None:
    """For any size of the frame and any place of the face outside it."""
    frame = smooth_picture(height, width)
    crop = crop_face(frame, face=make_face(x, y, side=side, roll_deg=roll_deg), size=48)
    assert crop.image.shape == (48, 48, 3) and np.isfinite(crop.frame_to_crop).all()
    assert crop.image.min() >= max(0, int(frame.min()) - 40) and crop.image.max() <= min(255, int(frame.max()) + 40)


@pytest.mark.parametrize(
    "box",
    [(np.nan, 0, 10, 10), (0, 0, np.inf, 10), (10, 0, 10, 20), (20, 0, 10, 20), (0, 5, 10, 5), (0, 0, 1e10, 1e10)],
)
def test_a_box_that_cannot_be_cropped_is_named(box: tuple[float, ...]) -> None:
    face = Face(box_xyxy=np.array(box, np.float32), landmarks=None, score=1.0)
    with pytest.raises(InputError, match="expected finite x1 < x2"):
        crop_face(np.zeros((40, 40, 3), np.uint8), face=face, size=48)


def test_a_box_of_another_picture_is_named() -> None:
    face = Face(box_xyxy=np.array([0, 0, 4000, 4000], np.float32), landmarks=None, score=1.0)
    with pytest.raises(InputError, match="do not belong together"):
        crop_face(np.zeros((40, 60, 3), np.uint8), face=face, size=48)


# ---- whole pictures


def test_a_picture_of_the_right_size_passes_untouched() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (48, 48, 3), dtype=np.uint8)
    crop = whole_crop(picture, size=48)
    assert (crop.image == picture).all()
    assert crop.face.box_xyxy.tolist() == [0, 0, 48, 48] and crop.face.landmarks is None and crop.face.score == 1
    assert crop.frame_to_crop.tolist() == [[1, 0, 0], [0, 1, 0]]


def test_square_pictures_are_resized() -> None:
    picture = smooth_picture(192, 192)
    crop = whole_crop(picture, size=48)
    expected = np.asarray(Image.fromarray(picture).reduce(4)).astype(int)
    assert np.abs(crop.image.astype(int) - expected).max() <= 8
    assert crop.frame_to_crop == pytest.approx(np.array([[0.25, 0, 0], [0, 0.25, 0]]))


@pytest.mark.parametrize(("height", "width"), [(96, 48), (48, 96), (1, 40), (300, 1), (1, 1), (218, 178)])
def test_other_pictures_keep_their_proportions(height: int, width: int) -> None:
    """A round dot stays round, and the padding mirrors the picture."""
    crop = whole_crop(smooth_picture(height, width, seed=5), size=48)
    scale = 48 / max(height, width)
    middle = [24 - width / 2 * scale, 24 - height / 2 * scale]
    assert crop.frame_to_crop == pytest.approx(np.array([[scale, 0, middle[0]], [0, scale, middle[1]]]), abs=1e-4)
    assert crop.face.box_xyxy.tolist() == [0, 0, width, height]
    if (height, width) == (96, 48):
        assert np.abs(crop.image[:, :12].astype(int) - crop.image[:, 12:24][:, ::-1]).max() <= 3


def test_an_empty_picture_is_named() -> None:
    with pytest.raises(InputError, match="0 x 5 pixels"):
        whole_crop(np.zeros((5, 0, 3), np.uint8), size=48)


# ---- framing as data


def test_framing_survives_json() -> None:
    framing = Framing(side_per_box=1.3, eyes_weight=0.25, below_eyes=0.1, below_box=-0.05, keep_roll_deg=0)
    assert Framing.from_json(framing.to_json()) == framing
    assert Framing.from_json("{}") == FERPLUS_FRAMING == Framing()
    assert "\n" not in framing.to_json()


@pytest.mark.parametrize(
    "text",
    ["", "[1]", "3", '"side"', '{"side": 1}', '{"side_per_box": "1"}', '{"eyes_weight": 2}', '{"below_eyes": NaN}'],
)
def test_damaged_framing_is_an_error_of_the_model(text: str) -> None:
    with pytest.raises(ModelError, match="framing"):
        Framing.from_json(text)


@pytest.mark.parametrize(
    "wrong", [{"side_per_box": 0}, {"eyes_weight": -0.1}, {"keep_roll_deg": 181}, {"below_box": math.nan}]
)
def test_impossible_framing_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Framing(**wrong)
    assert json.loads(FERPLUS_FRAMING.to_json()).keys() >= wrong.keys()
