"""Face ids: photographed faces on synthetic paths with exact boxes, and real films."""

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from femae.errors import ConfigError
from femae.faces.load import load_detector
from femae.faces.scales import FaceDetector
from femae.faces.track import Tracker
from femae.types import Face, Frame

Picture = npt.NDArray[np.uint8]
Path2D = Callable[[float], tuple[float, float] | None]  # seconds -> centre of the face in pixels; None: not there
WIDTH, HEIGHT = 480, 270
FACE = 60.0  # side of a face in pixels


@dataclass(frozen=True, kw_only=True, slots=True)
class Sprite:
    """A head and shoulders cut out of a photograph; the face's box is 60 pixels (geometric mean), its centre known."""

    picture: Picture  # u8[H, W, 3]
    mask: npt.NDArray[np.bool_]  # bool[H, W]
    middle: tuple[float, float]  # of the face, pixels of the sprite
    half: tuple[float, float]  # half width and height of the face's box


@dataclass(frozen=True, kw_only=True, slots=True)
class Actor:
    """One person of a synthetic film. Later actors of a list cover earlier ones."""

    sprite: Sprite
    path: Path2D
    zoom: Callable[[float], float] = lambda time_s: 1.0


def cut_out(photo: Picture, box: Sequence[float]) -> Sprite:
    """Mask of the head (an ellipse) and the shoulders (a bell curve below it) around a face's box."""
    x1, y1, x2, y2 = box
    scale = FACE / np.sqrt((x2 - x1) * (y2 - y1))
    size = (round(photo.shape[1] * scale), round(photo.shape[0] * scale))
    photo = np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.LANCZOS))
    cx, cy = (x1 + x2) / 2 * scale, (y1 + y2) / 2 * scale
    left, right = max(0, round(cx - 65)), min(size[0], round(cx + 65))
    top, bottom = max(0, round(cy - 55)), min(size[1], round(cy + 110))
    y, x = np.mgrid[top:bottom, left:right].astype(float)
    head = ((x - cx) / 38) ** 2 + ((y - cy + 8) / 50) ** 2 < 1
    shoulders = (y > cy + 20) & (np.abs(x - cx) < 18 + (y - cy - 20) * 0.8)
    half = ((x2 - x1) / 2 * scale, (y2 - y1) / 2 * scale)
    return Sprite(picture=photo[top:bottom, left:right], mask=head | shoulders, middle=(cx - left, cy - top), half=half)


def backdrop(seed: int) -> Picture:
    """A smooth random picture from a seed."""
    small = np.random.default_rng(seed).integers(30, 220, (7, 12, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))


def shoot(actors: Sequence[Actor], *, time_s: float, scene: Picture) -> tuple[Picture, dict[int, Face]]:
    """A frame, and by number of their actor the faces of which at least 60 % are visible."""
    picture = scene.copy()
    owner = np.full((HEIGHT, WIDTH), -1)
    boxes = {}
    for number, actor in enumerate(actors):
        place = actor.path(time_s)
        if place is None:
            continue
        sprite, zoom = actor.sprite, actor.zoom(time_s)
        size = (max(1, round(sprite.mask.shape[1] * zoom)), max(1, round(sprite.mask.shape[0] * zoom)))
        pixels = np.asarray(Image.fromarray(sprite.picture).resize(size, Image.Resampling.BILINEAR))
        mask = np.asarray(Image.fromarray(sprite.mask).resize(size))
        x, y = round(place[0] - sprite.middle[0] * zoom), round(place[1] - sprite.middle[1] * zoom)
        if not (-size[0] < x < WIDTH and -size[1] < y < HEIGHT):
            continue
        ys, xs = slice(max(0, y), max(0, min(HEIGHT, y + size[1]))), slice(max(0, x), max(0, min(WIDTH, x + size[0])))
        inner = mask[ys.start - y : ys.stop - y, xs.start - x : xs.stop - x]
        picture[ys, xs][inner] = pixels[ys.start - y : ys.stop - y, xs.start - x : xs.stop - x][inner]
        owner[ys, xs][inner] = number
        cx, cy = x + sprite.middle[0] * zoom, y + sprite.middle[1] * zoom
        boxes[number] = np.array(
            [
                cx - sprite.half[0] * zoom,
                cy - sprite.half[1] * zoom,
                cx + sprite.half[0] * zoom,
                cy + sprite.half[1] * zoom,
            ]
        )
    faces = {}
    for number, box in boxes.items():
        x1, y1, x2, y2 = box.round().astype(int)
        seen = (owner[max(0, y1) : max(0, y2), max(0, x1) : max(0, x2)] == number).sum() / ((x2 - x1) * (y2 - y1))
        if seen > 0.6:
            faces[number] = Face(box_xyxy=box.astype(np.float32), landmarks=None, score=0.99)
    return picture, faces


def ids_of(
    actors: Sequence[Actor],
    *,
    times_s: Sequence[float],
    scenes: Callable[[float], Picture] | None = None,
    missed: Callable[[float], bool] = lambda time_s: False,
    noise: float = 0.01,
    tracker: Tracker | None = None,
) -> list[list[int]]:
    """Track a film; returns each actor's ids in order, without repetitions. Boxes jitter by `noise` face sides."""
    tracker, scene, rng = tracker or Tracker(), backdrop(0), np.random.default_rng(1)
    given_ids: list[list[int]] = [[] for _ in actors]
    for index, time_s in enumerate(times_s):
        picture, faces = shoot(actors, time_s=time_s, scene=scenes(time_s) if scenes else scene)
        shaken = {}
        for number, face in faces.items():
            box = face.box_xyxy + rng.normal(0, noise * FACE, 4).astype(np.float32)
            shaken[number] = Face(box_xyxy=box, landmarks=None, score=face.score)
        if missed(time_s):
            shaken = {}
        frame = Frame(index=index + 1, time_s=float(time_s), image=picture, source="film")
        pairs = tracker.update(frame, list(shaken.values()))
        assert len(pairs) == len(shaken) == len({face_id for face_id, _ in pairs})
        for face_id, face in pairs:
            number = next(n for n, other in shaken.items() if other is face)
            if given_ids[number][-1:] != [face_id]:
                given_ids[number].append(face_id)
    return given_ids


def line(start: float, speed: float, *, y: float = 110.0, first_s: float = 0.0, last_s: float = 1e9) -> Path2D:
    """Straight path: `start` pixels, `speed` faces per second, visible between two times."""
    return lambda time_s: (start + speed * FACE * time_s, y) if first_s <= time_s <= last_s else None


def still(x: float, y: float = 110.0) -> Path2D:
    return lambda time_s: (x, y)


def film_times(seconds: float, rate: float = 25.0) -> list[float]:
    return (np.arange(round(seconds * rate)) / rate).tolist()


@pytest.fixture(scope="module")
def cast(astronaut: Picture, carphone: Path) -> dict[str, Sprite]:
    """Four people: the woman, her mirror image, the woman with other colours, the man in the car."""
    box = (177.7, 56.9, 273.1, 177.3)
    mirrored = np.ascontiguousarray(astronaut[:, ::-1])
    with av.open(str(carphone)) as container:
        man = next(container.decode(video=0)).to_ndarray(format="rgb24")
    return {
        "woman": cut_out(astronaut, box),
        "mirrored": cut_out(mirrored, (512 - box[2], box[1], 512 - box[0], box[3])),
        "recoloured": cut_out(np.ascontiguousarray(astronaut[..., [2, 0, 1]]), box),
        "man": cut_out(man, (66.0, 35.3, 110.9, 97.9)),
    }


PAIRS = [("woman", "man"), ("recoloured", "woman"), ("woman", "mirrored")]


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("speed", [1.0, 2.5, 6.0])
def test_ids_survive_a_crossing_with_full_occlusion(
    cast: dict[str, Sprite], pair: tuple[str, str], speed: float
) -> None:
    actors = [
        Actor(sprite=cast[pair[0]], path=line(60, speed)),
        Actor(sprite=cast[pair[1]], path=line(420, -speed)),
    ]
    assert ids_of(actors, times_s=film_times(6 / speed)) == [[1], [2]]


def test_the_one_behind_is_not_reported_while_hidden(cast: dict[str, Sprite]) -> None:
    """In the crossing above, one face covers the other: there is a frame with only one visible face."""
    actors = [Actor(sprite=cast["woman"], path=line(60, 1)), Actor(sprite=cast["man"], path=line(420, -1))]
    counts = [len(shoot(actors, time_s=t, scene=backdrop(0))[1]) for t in film_times(6)]
    assert counts[0] == counts[-1] == 2 and 10 <= counts.count(1) <= 30


@pytest.mark.parametrize("pair", PAIRS[:2])
def test_two_who_meet_and_turn_back_keep_their_ids(cast: dict[str, Sprite], pair: tuple[str, str]) -> None:
    """Motion suggests that they passed each other, appearance that they did not."""

    def path(start: float) -> Path2D:
        return lambda time_s: (start + (240 - start) * np.sin(np.pi * time_s / 5), 110)

    actors = [Actor(sprite=cast[pair[0]], path=path(80)), Actor(sprite=cast[pair[1]], path=path(400))]
    assert ids_of(actors, times_s=film_times(5)) == [[1], [2]]


def test_ids_survive_missed_frames_while_people_move(cast: dict[str, Sprite]) -> None:
    actors = [Actor(sprite=cast["woman"], path=line(40, 1)), Actor(sprite=cast["mirrored"], path=line(440, -1, y=150))]
    gaps = ids_of(actors, times_s=film_times(6), missed=lambda t: 0.8 < t < 2.3 or 4 < t < 5 or round(t * 25) % 3 == 0)
    assert gaps == [[1], [2]]


@settings(max_examples=8, deadline=None)
@given(steps=st.lists(st.sampled_from([0.008, 0.017, 0.04, 0.1, 0.4]), min_size=25, max_size=40))
def test_ids_survive_a_crossing_at_any_frame_times(cast: dict[str, Sprite], steps: list[float]) -> None:
    times = np.cumsum(steps).tolist()
    speed = 350 / FACE / times[-1]
    if speed < 6:
        actors = [Actor(sprite=cast["woman"], path=line(60, speed)), Actor(sprite=cast["man"], path=line(420, -speed))]
        assert ids_of(actors, times_s=times) == [[1], [2]]


def test_a_cut_to_another_person_at_the_same_place_and_back(cast: dict[str, Sprite]) -> None:
    actors = [
        Actor(sprite=cast["woman"], path=lambda t: (240, 110) if int(t) % 2 == 0 else None),
        Actor(sprite=cast["man"], path=lambda t: (242, 111) if int(t) % 2 == 1 else None),
    ]
    assert ids_of(actors, times_s=film_times(5), scenes=lambda t: backdrop(int(t) % 2)) == [[1], [2]]


def test_after_a_cut_places_do_not_matter(cast: dict[str, Sprite]) -> None:
    """Two people swap sides from one shot to the next."""

    def path(side: int) -> Path2D:
        return lambda time_s: (120.0 if int(time_s + side) % 2 else 360.0, 110.0)

    actors = [Actor(sprite=cast["woman"], path=path(1)), Actor(sprite=cast["man"], path=path(0))]
    assert ids_of(actors, times_s=film_times(4), scenes=lambda t: backdrop(int(t) % 2)) == [[1], [2]]


def test_who_leaves_and_comes_back_is_known_within_the_limit(cast: dict[str, Sprite]) -> None:
    actors = [
        Actor(
            sprite=cast["woman"],
            path=lambda t: (240 + 120 * t, 110) if t < 3 else (90 * t - 780, 110) if t > 8 else None,
        ),
        Actor(sprite=cast["man"], path=still(100, 150)),
    ]
    times = film_times(12)
    assert ids_of(actors, times_s=times) == [[2], [1]]
    assert ids_of(actors, times_s=times, tracker=Tracker(max_gap_s=1, remember_s=3)) == [[2, 3], [1]]


def test_a_face_that_comes_near_fast_keeps_its_id(cast: dict[str, Sprite]) -> None:
    actor = Actor(sprite=cast["woman"], path=still(240, 120), zoom=lambda t: 0.4 * 2 ** (2 * t))
    assert ids_of([actor], times_s=film_times(1.5)) == [[1]]


def test_ids_are_dense_and_go_from_left_to_right(cast: dict[str, Sprite]) -> None:
    actors = [
        Actor(sprite=cast["man"], path=still(350)),
        Actor(sprite=cast["woman"], path=still(60)),
        Actor(sprite=cast["recoloured"], path=lambda t: (200, 110) if t > 0.5 else None),
    ]
    assert ids_of(actors, times_s=film_times(1)) == [[2], [1], [3]]


@settings(max_examples=15, deadline=None)
@given(orders=st.lists(st.permutations(range(4)), min_size=20, max_size=20))
def test_the_order_of_the_detections_does_not_matter(cast: dict[str, Sprite], orders: list[list[int]]) -> None:
    actors = [
        Actor(sprite=sprite, path=line(60 + 110 * k, (-1) ** k * 2.0, y=100 + 20 * k))
        for k, sprite in enumerate(cast.values())
    ]
    plain, shuffled = Tracker(), Tracker()
    for index, order in enumerate(orders):
        picture, faces = shoot(actors, time_s=index * 0.08, scene=backdrop(0))
        frame = Frame(index=index + 1, time_s=index * 0.08, image=picture, source="film")
        listed = list(faces.values())
        mixed = [listed[k] for k in order if k < len(listed)]
        assert plain.update(frame, listed) == shuffled.update(frame, mixed)


def test_unreadable_frames_change_nothing(cast: dict[str, Sprite]) -> None:
    actors = [Actor(sprite=cast["woman"], path=line(60, 2)), Actor(sprite=cast["man"], path=line(420, -2))]
    tracker, ids = Tracker(), set()
    for index, time_s in enumerate(film_times(2.5)):
        picture, faces = shoot(actors, time_s=time_s, scene=backdrop(0))
        damaged = index % 3 == 1
        frame = Frame(index=index + 1, time_s=time_s, image=None if damaged else picture, source="film")
        pairs = tracker.update(frame, [] if damaged else list(faces.values()))
        assert len(pairs) == (0 if damaged else len(faces))
        ids |= {face_id for face_id, _ in pairs}
    assert ids == {1, 2}


def test_memory_does_not_grow_with_the_number_of_people() -> None:
    tracker, rng, sizes = Tracker(max_lost=5), np.random.default_rng(0), []
    for index in range(60):
        picture = rng.integers(0, 255, (HEIGHT // 30, WIDTH // 30, 3), dtype=np.uint8).repeat(30, 0).repeat(30, 1)
        face = Face(box_xyxy=np.array([200, 80, 260, 150], np.float32), landmarks=None, score=0.9)
        pairs = tracker.update(Frame(index=index + 1, time_s=None, image=picture, source="film"), [face])
        assert pairs[0][0] == index + 1
        sizes.append(len(pickle.dumps(tracker)))
    assert max(sizes) < 1.1 * sizes[8] < 60_000


@pytest.mark.parametrize(
    "wrong", [{"max_gap_s": -1}, {"remember_s": 1.0}, {"max_lost": -1}, {"max_gap_s": float("nan")}]
)
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="expected 0 <= max_gap_s"):
        Tracker(**wrong)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return load_detector()


def decoded(path: Path, *, step: int = 1, limit: int = 10**9) -> list[Frame]:
    """Every step-th frame of a real film with its presentation time."""
    frames = []
    with av.open(str(path)) as container:
        for number, picture in enumerate(container.decode(video=0)):
            if number % step == 0 and len(frames) < limit:
                image = picture.to_ndarray(format="rgb24")
                frames.append(Frame(index=number + 1, time_s=picture.time, image=image, source=path.name))
    return frames


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "people", "step"),
    [
        ("man_smile.mp4", 1, 3),
        ("talking_face_franck.mp4", 1, 24),
        ("webcam_man_1.mp4", 1, 25),
        ("woman_phone_profile.mp4", 1, 3),
        ("headpose_man.gif", 1, 3),
        ("carphone_qcif.mp4", 1, 3),
        ("grid_bbaf2n.mpg", 1, 5),
        ("grid_brbk7n.mpg", 1, 5),
        ("grid_lbbc2a.mpg", 1, 5),
        ("grid_lrwp9a.mpg", 1, 5),
        ("hard/vfr.mp4", 1, 2),
        ("hard/two_faces.mp4", 2, 5),
        ("hard/four_faces.mp4", 4, 8),
        ("headpose_two_people.gif", 2, 2),
    ],
)
def test_real_films_have_as_many_ids_as_people(
    shared_data: Path, detector: FaceDetector, name: str, people: int, step: int
) -> None:
    tracker, ids = Tracker(), set()
    for frame in decoded(shared_data / "videos" / name, step=step):
        assert frame.image is not None
        faces = detector.detect(frame.image[None])[0]
        assert len(faces) == people
        ids |= {face_id for face_id, _ in tracker.update(frame, faces)}
    assert ids == set(range(1, people + 1))


@pytest.mark.shared
@pytest.mark.parametrize("names", [("grid_bbaf2n.mpg", "grid_lrwp9a.mpg"), ("grid_lbbc2a.mpg", "grid_bbaf2n.mpg")])
def test_two_speakers_pass_each_other_before_the_real_detector(
    shared_data: Path, detector: FaceDetector, names: tuple[str, str]
) -> None:
    clips = [decoded(shared_data / "videos" / name, limit=36) for name in names]
    tracker, paths = Tracker(), (line(60, 4.0), line(420, -4.0))
    given_ids: list[set[int]] = [set(), set()]
    num_hidden = 0
    for index, pair in enumerate(zip(*clips, strict=True)):
        actors = []
        for frame, path in zip(pair, paths, strict=True):
            assert frame.image is not None
            (face,) = detector.detect(frame.image[None])[0]
            actors.append(Actor(sprite=cut_out(frame.image, face.box_xyxy.tolist()), path=path))
        picture, truth = shoot(actors, time_s=index / 25, scene=backdrop(0))
        faces = detector.detect(picture[None])[0]
        num_hidden += len(faces) < 2
        frame = Frame(index=index + 1, time_s=index / 25, image=picture, source="film")
        for face_id, found in tracker.update(frame, faces):
            far = {k: float(np.abs(found.box_xyxy - face.box_xyxy).max()) for k, face in truth.items()}
            if far and min(far.values()) < FACE / 3:
                given_ids[min(far, key=lambda k: far[k])].add(face_id)
    assert num_hidden >= 3
    assert given_ids == [{1}, {2}]
