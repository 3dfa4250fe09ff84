"""The contract of FrameSource, tested on every source."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from femae.video.pictures import PictureSource
from femae.video.pyav import PyAVSource
from femae.video.source import FrameSource

Picture = npt.NDArray[np.uint8]
Maker = Callable[..., Path]


@pytest.fixture(params=["film", "damaged film", "pictures", "damaged pictures"])
def source(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    scene: Callable[..., list[Picture]],
    write_film: Maker,
    spoil: Maker,
) -> Iterator[FrameSource]:
    """Ten frames; in the damaged ones the sixth is lost."""
    if "film" in request.param:
        film = write_film(tmp_path / "a.mov", scene(10), codec="mjpeg", pix_fmt="yuvj420p")
        if "damaged" in request.param:
            film = spoil(film, tmp_path / "spoilt.mov", packets=[5])
        yield PyAVSource(film)
        return
    paths = [tmp_path / f"{number}.png" for number in range(10)]
    for path, picture in zip(paths, scene(10), strict=True):
        Image.fromarray(picture).save(path)
    if "damaged" in request.param:
        paths[5].write_bytes(b"spoilt")
    yield PictureSource(paths, name="album")


def test_conformance(source: FrameSource, request: pytest.FixtureRequest) -> None:
    assert source.info.name
    is_damaged = "damaged" in request.node.callspec.params["source"]
    with source as opened:
        assert opened is source
        for _ in range(2):  # iterating again starts over
            frames = list(source)
            assert [number for number, frame in enumerate(frames) if frame.image is None] == ([5] if is_damaged else [])
            assert len(frames) == 10 and all(frame.source for frame in frames)
            assert all(bool(frame.problem) == (frame.image is None) for frame in frames)
            assert len(source.problems) == (1 if is_damaged else 0)
            assert all("of 10" in problem and "\n" not in problem for problem in source.problems)
    times = [frame.time_s for frame in frames]
    if any(time is not None for time in times):
        assert [frame.index for frame in frames] == list(range(1, 11))
        assert times == sorted(times)  # type: ignore[type-var]
    else:
        assert {frame.index for frame in frames} == {1}


def test_two_passes_at_once_do_not_mix(source: FrameSource) -> None:
    """A new iteration ends the previous one."""
    first = iter(source)
    next(first)
    again = list(source)
    assert len(again) == 10
    assert len(list(first)) <= 9
