"""Long films in parts: every frame in exactly one part, with the pixels, times and problems of the whole film."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from femae.types import Frame
from femae.video import film_parts
from femae.video.film_parts import parts_of
from femae.video.pyav import PyAVSource
from femae.video.source import Tally

Picture = npt.NDArray[np.uint8]
Scene = Callable[..., list[Picture]]
Maker = Callable[..., Path]
FRONT = {"movflags": "faststart"}


@pytest.fixture(autouse=True)
def short_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short warm-up, so that parts of these films do not start reading at the beginning of the film."""
    monkeypatch.setattr(film_parts, "WARM_UP_S", 0.3)


def in_parts(path: Path, part_s: float) -> tuple[list[Frame], list[str], int]:
    """The own frames of all parts with consecutive indices, the problems, and the number of warm-up frames."""
    frames, tallies, num_before = list[Frame](), list[Tally](), 0
    with PyAVSource(path) as film:
        for part in parts_of(path, part_s=part_s):
            with film.part(part) as source:
                assert source.is_part and not film.is_part
                own = list(source)
            before = [frame for frame in own if frame.index == 0]
            assert own[: len(before)] == before
            own = own[len(before) :]
            assert [frame.index for frame in own] == list(range(1, len(own) + 1))
            num_before += len(before)
            frames += own
            tallies.append(source.tally)
    return frames, Tally.joined(tallies).sentences(), num_before


def whole(path: Path) -> tuple[list[Frame], list[str]]:
    with PyAVSource(path) as film:
        return list(film), film.problems


def assert_same(path: Path, *, part_s: float = 0.5) -> list[str]:
    frames, problems, num_before = in_parts(path, part_s)
    expected, expected_problems = whole(path)
    assert [frame.time_s for frame in frames] == [frame.time_s for frame in expected]
    for frame, other in zip(frames, expected, strict=True):
        assert frame.problem == other.problem
        assert (frame.image is None) == (other.image is None)
        assert frame.image is None or np.array_equal(frame.image, other.image), frame.time_s
    assert problems == expected_problems and num_before > 0
    return problems


@pytest.mark.parametrize(
    ("codec", "options", "suffix"),
    [
        ("libx264", {"bf": "3"}, "mp4"),
        ("libx264", {"bf": "0"}, "mov"),
        ("libx264", {"bf": "3", "x264-params": "open-gop=1"}, "mp4"),
        ("libx265", {"x265-params": "log-level=none:keyint=12:min-keyint=12:open-gop=1"}, "mp4"),
        ("mpeg4", {"bf": "2", "b": "2M"}, "mp4"),
    ],
)
def test_parts_make_the_whole(
    tmp_path: Path, scene: Scene, write_film: Maker, codec: str, options: dict[str, str], suffix: str
) -> None:
    path = write_film(tmp_path / f"film.{suffix}", scene(90), codec=codec, options=options, sound="aac")
    parts = parts_of(path, part_s=0.5)
    assert len(parts) == 8 and [part.number for part in parts] == list(range(8))
    assert all(part.end == after.start for part, after in pairwise(parts))
    assert parts[-1].end is None and parts[0].first == parts[0].start
    assert not assert_same(path)


def test_times_of_the_film_decide(tmp_path: Path, scene: Scene, write_film: Maker, make_video: Maker) -> None:
    """A film that begins late, and one with a variable frame rate."""
    assert not assert_same(write_film(tmp_path / "late.mp4", scene(60), video_start_s=3.0, sound="aac"))
    times_s = np.cumsum(np.random.default_rng(0).uniform(0.01, 0.15, 60)).tolist()
    assert not assert_same(make_video(tmp_path / "vfr.mp4", scene(60), times_s=times_s, options={"g": "6"}))


@pytest.mark.parametrize("kind", ["noise", "zeros"])
def test_damage_is_that_of_the_whole(
    tmp_path: Path, scene: Scene, write_film: Maker, spoil: Callable[..., Path], kind: str
) -> None:
    film = write_film(tmp_path / "film.mp4", scene(90), options={"bf": "0"}, container_options=FRONT)
    problems = assert_same(spoil(film, tmp_path / "bad.mp4", packets=[30, 31, 32, 65], kind=kind))
    assert problems and "of 90 frames" in problems[0]


def test_a_part_without_any_picture_is_one_of_lost_frames(
    tmp_path: Path, scene: Scene, write_film: Maker, spoil: Callable[..., Path]
) -> None:
    film = write_film(tmp_path / "film.mp4", scene(90), options={"bf": "0"}, container_options=FRONT)
    problems = assert_same(spoil(film, tmp_path / "bad.mp4", packets=range(30, 75)))
    assert problems and "could not be decoded" in problems[0]


def test_films_that_are_not_cut(tmp_path: Path, scene: Scene, write_film: Maker) -> None:
    pictures = scene(50)
    film = write_film(tmp_path / "film.mp4", pictures, container_options=FRONT)
    assert parts_of(film, part_s=2.0) == () and len(parts_of(film, part_s=1.99)) == 2
    pieces = write_film(tmp_path / "pieces.mp4", pictures, container_options={"movflags": "frag_keyframe+empty_moov"})
    cut_off = tmp_path / "cut.mp4"
    cut_off.write_bytes(film.read_bytes()[:-2000])
    for path in (pieces, cut_off, write_film(tmp_path / "film.mkv", pictures)):
        assert parts_of(path, part_s=0.5) == ()
