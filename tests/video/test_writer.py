"""A written film has the source's times, length, pictures and sound, and no partial file is left behind."""

import errno
import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import psutil
import pytest

from femae.errors import OutputError
from femae.types import Frame, SourceInfo
from femae.video.pyav import PyAVSource
from femae.video.writer import VideoWriter

Picture = npt.NDArray[np.uint8]
Scene = Callable[..., list[Picture]]
Maker = Callable[..., Path]


def copy_film(source_path: Path, out: Path) -> list[Frame]:
    """Copy a film through reader and writer; returns the frames read."""
    with PyAVSource(source_path) as source, VideoWriter(out, info=source.info, source_path=source_path) as writer:
        frames = list(source)
        for frame in frames:
            writer.write(frame, frame.image)
    assert not list(out.parent.glob("*.part"))
    return frames


def read(path: Path) -> list[Frame]:
    with PyAVSource(path) as source:
        frames = list(source)
        assert source.problems == []
    return frames


def picture_end_s(path: Path) -> float:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.duration is not None and stream.time_base is not None
        return float(((stream.start_time or 0) + stream.duration) * stream.time_base)


def clicks_s(path: Path, *, track: int = 0) -> list[float]:
    """Start times of the clicks of a sound track."""
    found: list[float] = []
    last = -1.0
    with av.open(str(path)) as container:
        for frame in container.decode(audio=track):
            samples = frame.to_ndarray().astype(np.float64)
            loud = np.abs(samples.reshape(-1, frame.layout.nb_channels) if frame.format.is_packed else samples.T)
            loud = loud.max(axis=1) / (32768 if samples.max(initial=0) > 2 else 1)
            for position in np.flatnonzero(loud > 0.3):
                time = float(frame.time or 0.0) + position / frame.sample_rate
                if time - last > 0.1:
                    found.append(time)
                last = time
    return found


def test_uneven_times_and_length_are_kept(tmp_path: Path, scene: Scene, make_video: Maker) -> None:
    times_s = [0.0, 0.017, 0.05, 0.45, 0.4675, 0.5, 0.9, 0.91]
    source = make_video(tmp_path / "vfr.mp4", scene(8), times_s=times_s, options={"bf": "0"})
    frames = copy_film(source, tmp_path / "out.mp4")
    written = read(tmp_path / "out.mp4")
    assert [frame.time_s for frame in written] == [frame.time_s for frame in frames]
    assert picture_end_s(tmp_path / "out.mp4") == pytest.approx(picture_end_s(source), abs=1e-6)
    for a, b in zip(written, frames, strict=True):
        assert a.image is not None and b.image is not None
        assert np.abs(a.image.astype(int) - b.image).mean() < 4


@pytest.mark.parametrize("start_s", [0.0, 0.4, 10.04])
def test_a_late_start_is_kept(tmp_path: Path, scene: Scene, write_film: Maker, start_s: float) -> None:
    source = write_film(tmp_path / "in.mkv", scene(20), sound="aac", video_start_s=start_s, sound_start_s=start_s)
    frames = copy_film(source, tmp_path / "out.mp4")
    assert [frame.time_s for frame in read(tmp_path / "out.mp4")] == [frame.time_s for frame in frames]
    assert frames[0].time_s == pytest.approx(start_s, abs=0.03)
    assert clicks_s(tmp_path / "out.mp4") == pytest.approx(clicks_s(source), abs=0.002)


def test_a_start_before_zero_moves_pictures_and_sound_alike(tmp_path: Path, scene: Scene, write_film: Maker) -> None:
    source = write_film(tmp_path / "in.mkv", scene(20), sound="flac")
    info = SourceInfo(name="x", width=160, height=120, frame_rate=Fraction(25), time_base=Fraction(1, 1000))
    with VideoWriter(tmp_path / "out.mp4", info=info, source_path=source) as writer:
        for number, picture in enumerate(scene(20)):
            writer.write(Frame(index=number + 1, time_s=number / 25 - 0.2, image=picture, source="x"), picture)
    written = read(tmp_path / "out.mp4")
    assert written[0].time_s == 0.0 and written[19].time_s == pytest.approx(0.76)
    assert clicks_s(tmp_path / "out.mp4") == pytest.approx([time + 0.2 for time in clicks_s(source)], abs=0.002)


SOUNDS = [
    ("aac.mp4", "libx264", "aac", "aac"),
    ("aac.ts", "libx264", "aac", "aac"),
    ("mp3.mp4", "libx264", "libmp3lame", "mp3float"),
    ("ac3.mkv", "libx264", "ac3", "ac3"),
    ("alac.mov", "libx264", "alac", "alac"),
    ("flac.mkv", "libx264", "flac", "flac"),
    ("opus.webm", "libvpx-vp9", "libopus", "opus"),
    ("mp2.mpg", "mpeg1video", "mp2", "aac"),
    ("pcm.avi", "mjpeg", "pcm_s16le", "aac"),
    ("pcm24.mov", "libx264", "pcm_s24le", "aac"),
]


@pytest.mark.parametrize(("name", "codec", "sound", "expected"), SOUNDS, ids=[s[0] for s in SOUNDS])
def test_sound_is_kept_complete_and_in_step(
    tmp_path: Path, scene: Scene, write_film: Maker, name: str, codec: str, sound: str, expected: str
) -> None:
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    options = {"deadline": "realtime", "cpu-used": "8"} if "vpx" in codec else {}
    film = tmp_path / name
    source = write_film(film, scene(45), codec=codec, sound=sound, pix_fmt=pix_fmt, options=options)
    frames = copy_film(source, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.audio[0].codec_context.name == expected
    assert [frame.time_s for frame in read(tmp_path / "out.mp4")] == [frame.time_s for frame in frames]
    before, after = clicks_s(source), clicks_s(tmp_path / "out.mp4")
    assert len(before) == 4 and after == pytest.approx(before, abs=0.01)
    if expected == sound:  # copied: identical samples
        assert _num_samples(tmp_path / "out.mp4") == pytest.approx(_num_samples(source), abs=64)


def _num_samples(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(frame.samples for frame in container.decode(audio=0))


def test_all_tracks_and_sound_longer_than_the_pictures(tmp_path: Path, scene: Scene, write_film: Maker) -> None:
    source = write_film(tmp_path / "in.mp4", scene(25), sound="aac", num_tracks=2, sound_s=2.0)
    copy_film(source, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert len(container.streams.audio) == 2
    for track in (0, 1):
        assert clicks_s(tmp_path / "out.mp4", track=track) == pytest.approx(clicks_s(source, track=track), abs=0.002)
    assert picture_end_s(tmp_path / "out.mp4") == pytest.approx(1.0)


def test_slow_sound_is_encoded_anew(tmp_path: Path, scene: Scene, write_film: Maker) -> None:
    options = {"sound": "libmp3lame", "sample_rate": 11025, "layout": "mono"}
    source = write_film(tmp_path / "in.mkv", scene(25), **options)
    copy_film(source, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
    assert clicks_s(tmp_path / "out.mp4") == pytest.approx(clicks_s(source), abs=0.004)


def test_damaged_sound_stays_in_step(tmp_path: Path, scene: Scene, write_film: Maker) -> None:
    """Half a second of packets is damaged: it is replaced by silence, and the next click is on time."""
    source = write_film(tmp_path / "in.mpg", scene(50), codec="mpeg1video", sound="mp2")
    before = clicks_s(source)
    data = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        places = [
            (p.pos, p.size) for p in container.demux(audio=0) if p.pos and p.size and 0.9 < p.pts * p.time_base < 1.2
        ]
    for pos, size in places:
        data[pos + 30 : pos + size] = bytes(max(0, size - 30))
    spoilt = tmp_path / "spoilt.mpg"
    spoilt.write_bytes(data)
    with PyAVSource(spoilt) as film, VideoWriter(tmp_path / "out.mp4", info=film.info, source_path=spoilt) as writer:
        for frame in film:
            writer.write(frame, frame.image)
    assert clicks_s(tmp_path / "out.mp4")[-1] == pytest.approx(before[-1], abs=0.004)


@pytest.mark.parametrize(("height", "width"), [(35, 63), (36, 63), (35, 64), (1, 1), (120, 160)])
def test_odd_sizes_get_their_last_line_twice(tmp_path: Path, scene: Scene, height: int, width: int) -> None:
    picture = scene(1, height=height, width=width)[0]
    info = SourceInfo(name="x", width=width, height=height, frame_rate=Fraction(25), time_base=Fraction(1, 25))
    with VideoWriter(tmp_path / "out.mp4", info=info, crf=1) as writer:
        for index in range(1, 4):
            writer.write(Frame(index=index, time_s=(index - 1) / 25, image=picture, source="x"), picture)
    written = read(tmp_path / "out.mp4")
    assert len(written) == 3 and written[0].image is not None
    assert written[0].image.shape == (height + height % 2, width + width % 2, 3)
    assert np.abs(written[0].image[:height, :width].astype(int) - picture).mean() < 8
    assert picture_end_s(tmp_path / "out.mp4") == pytest.approx(0.12)


def test_colours_are_kept(tmp_path: Path) -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (224, 172, 105)]
    picture = np.zeros((64, 16 * len(colours), 3), np.uint8)
    for number, colour in enumerate(colours):
        picture[:, 16 * number : 16 * number + 16] = colour
    info = SourceInfo(name="x", width=96, height=64, frame_rate=Fraction(25), time_base=Fraction(1, 25))
    with VideoWriter(tmp_path / "out.mp4", info=info, crf=5) as writer:
        writer.write(Frame(index=1, time_s=0.0, image=picture, source="x"), picture)
    (frame,) = read(tmp_path / "out.mp4")
    assert frame.image is not None
    for number, colour in enumerate(colours):
        assert np.abs(frame.image[32, 16 * number + 8].astype(int) - colour).max() <= 6


def test_lost_frames_are_black_or_what_the_caller_draws(
    tmp_path: Path, scene: Scene, write_film: Maker, spoil: Maker
) -> None:
    film = write_film(tmp_path / "in.mp4", scene(24), options={"bf": "0"})
    spoilt = spoil(film, tmp_path / "spoilt.mp4", packets=[11, 23])
    with PyAVSource(spoilt) as source, VideoWriter(tmp_path / "out.mp4", info=source.info) as writer:
        for frame in source:
            writer.write(frame, frame.image)
        assert writer.blank().shape == (120, 160, 3)
    written = read(tmp_path / "out.mp4")
    assert len(written) == 24
    assert [f.index for f in written if f.image is not None and f.image.mean() < 3] == [12, 24]


def test_repeated_and_missing_times_stay_in_order(tmp_path: Path, scene: Scene) -> None:
    info = SourceInfo(name="x", width=160, height=120, frame_rate=Fraction(25), time_base=Fraction(1, 1000))
    times: list[float | None] = [0.0, 0.04, 0.04, 0.02, None, 0.2]
    with VideoWriter(tmp_path / "out.mp4", info=info) as writer:
        for index, (time_s, picture) in enumerate(zip(times, scene(6), strict=True), 1):
            writer.write(Frame(index=index, time_s=time_s, image=picture, source="x"), picture)
    written = [frame.time_s for frame in read(tmp_path / "out.mp4")]
    assert written == [0.0, 0.04, 0.041, 0.042, 0.082, 0.2]


def test_a_picture_of_another_size_is_scaled(tmp_path: Path, scene: Scene) -> None:
    info = SourceInfo(name="x", frame_rate=Fraction(25), time_base=Fraction(1, 25))
    with VideoWriter(tmp_path / "out.mp4", info=info) as writer:
        for index, size in enumerate([(120, 160), (60, 80)], 1):
            picture = scene(1, height=size[0], width=size[1])[0]
            writer.write(Frame(index=index, time_s=index / 25, image=picture, source="x"), picture)
    assert {f.image.shape for f in read(tmp_path / "out.mp4") if f.image is not None} == {(120, 160, 3)}


def test_an_exception_leaves_nothing_and_the_old_film_untouched(tmp_path: Path, scene: Scene) -> None:
    out = tmp_path / "out.mp4"
    out.write_text("the old film")
    info = SourceInfo(name="x", frame_rate=Fraction(25), time_base=Fraction(1, 25))
    with pytest.raises(KeyboardInterrupt), VideoWriter(out, info=info) as writer:
        writer.write(Frame(index=1, time_s=0.0, image=None, source="x"), scene(1)[0])
        assert (tmp_path / "out.mp4.part").exists() and out.read_text() == "the old film"
        raise KeyboardInterrupt
    assert out.read_text() == "the old film" and list(tmp_path.iterdir()) == [out]


def refused(path: Path) -> str:
    with pytest.raises(OutputError) as caught:
        VideoWriter(path, info=SourceInfo(name="x"))
    assert f"'{path}'" in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    assert "is a folder" in refused(tmp_path)
    assert "its folder does not exist" in refused(tmp_path / "none" / "out.mp4")
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    if not os.access(locked, os.W_OK):
        assert "no permission" in refused(locked / "out.mp4")


def test_full_disk(tmp_path: Path, scene: Scene) -> None:
    device = Path("/dev/full")
    if not device.exists():
        pytest.skip("no /dev/full on this system")
    (tmp_path / "out.mp4.part").symlink_to(device)
    info = SourceInfo(name="x", frame_rate=Fraction(25), time_base=Fraction(1, 25))
    with pytest.raises(OutputError, match="the disk is full"), VideoWriter(tmp_path / "out.mp4", info=info) as writer:
        for index, picture in enumerate(scene(100), 1):
            writer.write(Frame(index=index, time_s=index / 25, image=picture, source="x"), picture)
    assert not list(tmp_path.iterdir()) and device.exists()


def test_file_size_limit(tmp_path: Path, scene: Scene) -> None:
    """The system refuses to extend the file while it is written."""
    resource = pytest.importorskip("resource")
    info = SourceInfo(name="x", frame_rate=Fraction(25), time_base=Fraction(1, 25))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(OutputError) as caught, VideoWriter(tmp_path / "out.mp4", info=info, crf=0) as writer:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
            for index, picture in enumerate(scene(100), 1):
                writer.write(Frame(index=index, time_s=index / 25, image=picture, source="x"), picture)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.strerror(errno.EFBIG) in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_no_frame_is_no_film(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match="there was no frame"),
        VideoWriter(tmp_path / "o.mp4", info=SourceInfo(name="x")),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_memory_does_not_grow_with_the_film(tmp_path: Path, write_film: Maker, scene: Scene) -> None:
    pictures = scene(50, height=64, width=96)
    source = write_film(tmp_path / "in.mkv", pictures * 24, sound="aac", options={"preset": "ultrafast"})
    process, before = psutil.Process(), 0
    info = SourceInfo(name="x", frame_rate=Fraction(25), time_base=Fraction(1, 1000))
    with VideoWriter(tmp_path / "out.mp4", info=info, source_path=source, preset="ultrafast") as writer:
        for number in range(1200):
            picture = pictures[number % 50]
            writer.write(Frame(index=number + 1, time_s=number / 25, image=picture, source="x"), picture)
            if number == 300:
                before = process.memory_info().rss
        assert process.memory_info().rss - before < 8_000_000  # the pictures between are 17 MB
