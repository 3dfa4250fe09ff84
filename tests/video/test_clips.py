"""Real clips: all frames at the right times, and of the damaged clip those before the cut."""

import csv
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from femae.errors import InputError
from femae.types import Face, FaceResult, FrameResult
from femae.video.discover import discover
from femae.video.overlay import draw
from femae.video.pictures import PictureSource
from femae.video.pyav import PyAVSource
from femae.video.writer import VideoWriter

pytestmark = pytest.mark.shared


@pytest.fixture(scope="module")
def clips(shared_data: Path) -> dict[str, dict[str, str]]:
    with (shared_data / "videos" / "clips.csv").open(newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def test_every_clip_has_its_frames(shared_data: Path, clips: dict[str, dict[str, str]]) -> None:
    for name, row in clips.items():
        path = shared_data / "videos" / name
        if row["codec"].startswith("ERR"):
            with pytest.raises(InputError):
                PyAVSource(path)
            continue
        with PyAVSource(path) as source:
            times: list[float] = []
            for frame in source:
                assert frame.image is not None and frame.index == len(times) + 1
                assert frame.image.shape == (source.info.height, source.info.width, 3)
                assert frame.time_s is not None
                times.append(frame.time_s)
            problems = list(source.problems)
        assert len(times) == int(row["frames"]), name
        assert (np.diff(times) > 0).all(), name
        expected = ["1 of 38 frames are damaged and may look wrong: frame 38 (1.480 s)"]
        assert problems == (expected if name == "hard/truncated.mpg" else []), name


def test_times_are_those_of_the_file(shared_data: Path) -> None:
    for name in (
        "face_then_noface_vfr_hevc.mov",
        "hard/vfr.mp4",
        "woman_phone_profile.mp4",
        "asl_small_face_sorry.mkv",
    ):
        path = shared_data / "videos" / name
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stated = sorted(Fraction(p.pts) * stream.time_base for p in container.demux(stream) if p.size)
        with PyAVSource(path) as source:
            assert [frame.time_s for frame in source] == [float(time) for time in stated]


def test_rotated_clips_are_upright(shared_data: Path) -> None:
    folder = shared_data / "videos"
    upright = {frame.index: frame.image for frame in PyAVSource(folder / "man_smile.mp4")}
    for name in ("phone_rotated_90.mp4", "phone_rotated_180.mp4"):
        for frame in PyAVSource(folder / "hard" / name):
            original = upright[frame.index]
            assert frame.image is not None and original is not None
            assert np.abs(frame.image.astype(int) - original).mean() < 6, (name, frame.index)


@pytest.mark.parametrize(
    "name", ["man_smile.mp4", "no_face.mp4", "grid_bbaf2n.mpg", "hard/vfr.mp4", "headpose_man.gif"]
)
def test_annotated_film_of_a_clip(shared_data: Path, tmp_path: Path, name: str) -> None:
    path = shared_data / "videos" / name
    with PyAVSource(path) as source, VideoWriter(tmp_path / "o.mp4", info=source.info, source_path=path) as writer:
        times = []
        for frame in source:
            assert frame.image is not None
            result = FrameResult(frame=frame, status="ok", faces=(_face(),))
            writer.write(frame, draw(frame.image, result, ()))
            times.append(frame.time_s)
    with PyAVSource(tmp_path / "o.mp4") as written:
        assert [frame.time_s for frame in written] == times
    with av.open(str(path)) as before, av.open(str(tmp_path / "o.mp4")) as after:
        assert len(after.streams.audio) == len(before.streams.audio)
        for old, new in zip(before.streams.audio, after.streams.audio, strict=True):
            assert float(new.duration * new.time_base) == pytest.approx(float(old.duration * old.time_base), abs=0.05)


def _face() -> FaceResult:
    face = Face(box_xyxy=np.array([200, 60, 400, 260], np.float32), landmarks=None, score=0.9)
    probs, scores = np.full(6, 0.5, np.float32), np.zeros(7, np.float32)
    return FaceResult(face=face, face_id=1, probs=probs, scores=scores, compound="", compound_score=1.0)


def test_folders_of_pictures(shared_data: Path) -> None:
    (item,) = discover([str(shared_data / "sfhq_samples") + "/"])
    assert item.stem == "sfhq_samples" and len(item.paths) == 55
    source = PictureSource(item.paths, name=item.name)
    assert all(frame.image is not None and frame.image.shape == (256, 256, 3) for frame in source)
    assert source.problems == []


@pytest.mark.parametrize("seed", range(3))
def test_noise_in_real_clips(shared_data: Path, tmp_path: Path, seed: int) -> None:
    """Films with an index keep all frames and times, and every frame that can be decoded is returned."""
    rng = np.random.default_rng(seed)
    for name in ("man_smile.mp4", "hard/vfr.mp4", "hard/mjpeg.avi", "face_then_noface_vfr_hevc.mov"):
        path = shared_data / "videos" / name
        whole = [frame.time_s for frame in PyAVSource(path)]
        data = bytearray(path.read_bytes())
        at = int(rng.integers(len(data) // 4, len(data) * 3 // 4))
        data[at : at + 3000] = rng.integers(0, 256, 3000, dtype=np.uint8).tobytes()
        spoilt = tmp_path / path.name
        spoilt.write_bytes(data)
        with PyAVSource(spoilt) as source:
            frames = [(frame.time_s, frame.image is None) for frame in source]
        assert [time for time, _ in frames] == whole, name
        assert sum(is_lost for _, is_lost in frames) < len(whole) / 2, name
