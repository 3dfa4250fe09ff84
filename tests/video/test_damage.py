"""Damaged films: every decodable frame is returned, and every lost one is reported, in order of presentation."""

import itertools
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from femae.types import Frame
from femae.video.pyav import PyAVSource

Picture = npt.NDArray[np.uint8]
Scene = Callable[..., list[Picture]]
Maker = Callable[..., Path]


def read(path: Path, *, num_threads: int = 1) -> tuple[list[Frame], list[str]]:
    with PyAVSource(path, num_threads=num_threads) as source:
        frames = list(source)
        problems = list(source.problems)
    assert [frame.index for frame in frames] == list(range(1, len(frames) + 1))
    times = [frame.time_s for frame in frames]
    assert all(a < b for a, b in itertools.pairwise(times)), "not in order of time"  # type: ignore[operator]
    assert all(bool(frame.problem) == (frame.image is None) for frame in frames)
    return frames, problems


def lost(frames: list[Frame]) -> list[int]:
    return [frame.index for frame in frames if frame.image is None]


def cut(film: Path, share: float) -> Path:
    """A copy truncated to this fraction of the bytes."""
    data = film.read_bytes()
    short = film.with_name("cut_" + film.name)
    short.write_bytes(data[: int(len(data) * share)])
    return short


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory, scene: Scene, write_film: Maker) -> dict[str, Path]:
    """Films of 48 frames each, with a key frame every 12."""
    folder = tmp_path_factory.mktemp("films")
    front = {"movflags": "faststart"}
    pieces = {"movflags": "frag_keyframe+empty_moov"}
    quick = {"x265-params": "log-level=none:keyint=12:min-keyint=12:scenecut=0"}
    pictures = scene(48)
    return {
        "h264.mp4": write_film(folder / "h264.mp4", pictures, options={"bf": "3"}, container_options=front),
        "plain.mp4": write_film(folder / "plain.mp4", pictures, options={"bf": "0"}, container_options=front),
        "pieces.mp4": write_film(folder / "pieces.mp4", pictures, container_options=pieces),
        "hevc.mp4": write_film(folder / "hevc.mp4", pictures, codec="libx265", options=quick, container_options=front),
        "h264.mkv": write_film(folder / "h264.mkv", pictures, options={"bf": "3"}),
        "vp9.webm": write_film(folder / "vp9.webm", pictures, codec="libvpx-vp9", options={"deadline": "realtime"}),
        "mpeg1.mpg": write_film(folder / "mpeg1.mpg", pictures, codec="mpeg1video", options={"b": "3M"}),
        "mpeg2.ts": write_film(folder / "mpeg2.ts", pictures, codec="mpeg2video", options={"b": "3M", "bf": "2"}),
        "mjpeg.avi": write_film(folder / "mjpeg.avi", pictures, codec="mjpeg", pix_fmt="yuvj420p"),
        "mpeg4.avi": write_film(folder / "mpeg4.avi", pictures, codec="mpeg4", options={"bf": "2", "b": "2M"}),
        "h264.avi": write_film(folder / "h264.avi", pictures, options={"bf": "3"}),
    }


@pytest.mark.parametrize("name", ["h264.mp4", "plain.mp4", "hevc.mp4", "mjpeg.avi", "mpeg4.avi"])
@pytest.mark.parametrize("share", [0.5, 0.7, 0.95])
def test_cut_off_film_names_every_promised_frame(films: dict[str, Path], name: str, share: float) -> None:
    whole, _ = read(films[name])
    frames, problems = read(cut(films[name], share))
    assert [frame.time_s for frame in frames] == [frame.time_s for frame in whole]
    missing = lost(frames)
    assert missing and missing[-1] == 48 and len(missing) < 48
    assert problems[0].startswith(f"{len(missing)} of 48 frames could not be decoded")
    first = frames[missing[0] - 1]
    assert f"frame {first.index} ({first.time_s:.3f} s)" in problems[0]
    for frame, original in zip(frames[: missing[0] - 2], whole, strict=False):  # the last one may be cut itself
        assert (frame.image == original.image).all()


def test_cut_off_film_says_where_it_ends(films: dict[str, Path]) -> None:
    frames, _ = read(cut(films["plain.mp4"], 0.6))
    assert frames[-1].problem == "the file ends before this frame"


def test_cut_off_film_in_pieces(films: dict[str, Path]) -> None:
    frames, problems = read(cut(films["pieces.mp4"], 0.55))
    assert 12 < len(frames) - len(lost(frames)) < 48 and lost(frames)[-1] == len(frames)
    assert "could not be decoded" in problems[0]


def test_only_sound_is_cut_off(tmp_path: Path, scene: Scene, write_film: Maker) -> None:
    """If the sound at the end of the file is cut off, no frame is lost."""
    film = write_film(tmp_path / "a.mp4", scene(24), sound="aac")
    data = bytearray(film.read_bytes())
    table = data.index(b"stco", data.index(b"soun"))
    (num_chunks,) = struct.unpack_from(">I", data, table + 8)
    for number in range(num_chunks):
        struct.pack_into(">I", data, table + 12 + 4 * number, len(data) + 1000 * number)
    film.write_bytes(data)
    frames, problems = read(film)
    assert len(frames) == 24 and lost(frames) == [] and problems == []


@pytest.mark.parametrize("name", ["h264.mp4", "plain.mp4", "hevc.mp4", "mpeg4.avi", "h264.avi", "mjpeg.avi"])
@pytest.mark.parametrize("packets", [[13], [24], [45, 47], [5, 6, 7, 30]])
@pytest.mark.parametrize("kind", ["noise", "zeros"])
def test_spoilt_packets(
    tmp_path: Path, films: dict[str, Path], spoil: Maker, name: str, packets: list[int], kind: str
) -> None:
    whole, _ = read(films[name])
    film = spoil(films[name], tmp_path / name, packets=packets, kind=kind)
    frames, problems = read(film)
    assert [frame.time_s for frame in frames] == [frame.time_s for frame in whole]
    missing = lost(frames)
    assert missing and "could not be decoded" in problems[0]
    if name == "mjpeg.avi":  # every frame is a key frame
        assert missing == [number + 1 for number in packets]
    # Groups of pictures without damage are complete, and frames before the damage are unchanged.
    spoilt_groups = {number // 12 for number in packets}
    for frame, original in zip(frames, whole, strict=True):
        group = (frame.index - 1) // 12
        if not {group, group - 1} & spoilt_groups and group + 1 not in spoilt_groups:
            assert frame.image is not None and (frame.image == original.image).all()
    threaded, threaded_problems = read(film, num_threads=3)
    assert lost(threaded) == missing and len(threaded) == 48
    assert threaded_problems == problems


def test_an_error_in_the_last_packets_takes_no_frame_along(
    tmp_path: Path, films: dict[str, Path], spoil: Maker
) -> None:
    """With several threads, an error is raised when the decoder is flushed, with intact frames behind it."""
    film = spoil(films["h264.mp4"], tmp_path / "tail.mp4", packets=[46])
    frames, _ = read(film, num_threads=4)
    assert len(frames) == 48 and len(lost(frames)) == 1


def test_a_lost_key_frame_loses_what_builds_on_it(tmp_path: Path, films: dict[str, Path], spoil: Maker) -> None:
    frames, problems = read(spoil(films["plain.mp4"], tmp_path / "key.mp4", packets=[0]))
    assert lost(frames) == list(range(1, 13)) and len(frames) == 48
    assert problems == ["12 of 48 frames could not be decoded, from frame 1 (0.000 s) on"]


def test_pictures_that_build_on_a_lost_one_are_given_but_named(
    tmp_path: Path, films: dict[str, Path], spoil: Maker
) -> None:
    frames, problems = read(spoil(films["plain.mp4"], tmp_path / "p.mp4", packets=[15]))
    assert lost(frames) == [16]
    assert problems == [
        "1 of 48 frames could not be decoded: frame 16 (0.600 s)",
        "8 of 48 frames are damaged and may look wrong, from frame 17 (0.640 s) on",
    ]


@pytest.mark.parametrize("name", ["h264.mkv", "vp9.webm"])
def test_bytes_passed_over_in_matroska(tmp_path: Path, films: dict[str, Path], spoil: Maker, name: str) -> None:
    """A damaged block header loses the rest of its cluster, without an error from the demuxer."""
    frames, problems = read(spoil(films[name], tmp_path / name, packets=[24], kind="zeros"))
    assert len(frames) == 48 and 1 <= len(lost(frames)) <= 24
    assert "could not be decoded" in problems[0]


@pytest.mark.parametrize("name", ["mpeg1.mpg", "mpeg2.ts"])
def test_bytes_spoilt_in_mpeg_streams(tmp_path: Path, films: dict[str, Path], name: str) -> None:
    data = bytearray(films[name].read_bytes())
    middle, length = len(data) // 2, len(data) // 8
    data[middle : middle + length] = np.random.default_rng(1).integers(0, 256, length, dtype=np.uint8).tobytes()
    spoilt = tmp_path / name
    spoilt.write_bytes(data)
    frames, problems = read(spoilt)
    assert len(frames) == 48 and 2 <= len(lost(frames)) <= 12 and "could not be decoded" in problems[0]


def test_cut_off_mpeg_program_stream(films: dict[str, Path]) -> None:
    """A file without an index: the frames up to the cut are returned, the last of which may be damaged."""
    frames, problems = read(cut(films["mpeg1.mpg"], 0.5))
    assert 15 <= len(frames) <= 33 and lost(frames) == []
    assert all("may look wrong" in problem for problem in problems)


@pytest.mark.parametrize("name", ["h264.mkv", "vp9.webm"])
def test_cut_off_matroska_says_that_it_breaks_off(films: dict[str, Path], name: str) -> None:
    frames, problems = read(cut(films[name], 0.5))
    assert 10 <= len(frames) < 48
    assert f"the film ends early, after {frames[-1].time_s:.3f} s" in problems[-1]


def test_damaged_gif(tmp_path: Path, scene: Scene) -> None:
    from PIL import Image

    images = [Image.fromarray(picture).quantize(64) for picture in scene(12)]
    film = tmp_path / "a.gif"
    images[0].save(film, save_all=True, append_images=images[1:], duration=50)
    assert len(read(film)[0]) == 12 and read(film)[1] == []
    frames, problems = read(cut(film, 0.6))
    assert 4 <= len(frames) <= 8 and "ends early" in problems[-1]
    data = bytearray(film.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 4000] = bytes(4000)
    film.write_bytes(data)
    frames, problems = read(film)
    assert len(frames) < 12 and "ends early" in problems[-1]


def test_avi_chunk_that_lost_its_header(tmp_path: Path, films: dict[str, Path]) -> None:
    """FFmpeg skips the frame; those after it must keep their times."""
    data = bytearray(films["mjpeg.avi"].read_bytes())
    index = data.rindex(b"idx1")
    entry = index + 8 + 16 * 20
    assert data[entry : entry + 4] == b"00dc"
    (offset,) = struct.unpack_from("<I", data, entry + 8)
    chunk = data.index(b"movi") + offset
    assert data[chunk : chunk + 4] == b"00dc"
    data[chunk : chunk + 8] = bytes(8)
    film = tmp_path / "headless.avi"
    film.write_bytes(data)
    whole, _ = read(films["mjpeg.avi"])
    frames, problems = read(film)
    assert lost(frames) == [21] and [f.time_s for f in frames] == [f.time_s for f in whole]
    assert (frames[30].image == whole[30].image).all()
    assert problems[0] == "1 of 48 frames could not be decoded: frame 21 (0.800 s)"


def test_noise_anywhere_never_breaks_the_reader(tmp_path: Path, films: dict[str, Path]) -> None:
    """Frames are in order and unique, and missing ones are reported (after a steady beginning)."""
    rng = np.random.default_rng(11)
    for name, film in films.items():
        data = film.read_bytes()
        for _ in range(4):
            spoilt = bytearray(data)
            at, length = int(rng.integers(len(data) // 3, len(data) * 7 // 8)), int(rng.integers(50, 3000))
            noise = rng.integers(0, 256, length, dtype=np.uint8).tobytes()
            spoilt[at : at + length] = noise[: len(data) - at]
            path = tmp_path / name
            path.write_bytes(spoilt)
            frames, problems = read(path)
            promises_nothing = name.endswith((".mpg", ".ts"))  # a missing end cannot be detected
            assert len(frames) <= 49, (name, at, length)
            assert len(frames) >= 48 or problems or promises_nothing, (name, at, length)
