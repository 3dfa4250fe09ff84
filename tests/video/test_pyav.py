"""Undamaged films: every frame at its time, upright and with the right colours."""

import gc
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import psutil
import pytest
from PIL import Image

from femae.types import Frame
from femae.video.pyav import PyAVSource
from femae.video.rgb import orient

Picture = npt.NDArray[np.uint8]
Scene = Callable[..., list[Picture]]
Maker = Callable[..., Path]


def frames_of(path: Path, **options: Any) -> list[Frame]:
    """All frames of a film; fails if there are problems."""
    with PyAVSource(path, **options) as source:
        frames = list(source)
        assert source.problems == []
    return frames


def difference(a: Picture | None, b: Picture | None) -> float:
    assert a is not None and b is not None and a.shape == b.shape
    return float(np.abs(a.astype(int) - b).mean())


CODECS = [
    ("h264.mp4", "libx264", "yuv420p", {"bf": "3"}),
    ("h264.mkv", "libx264", "yuv420p", {"bf": "3"}),
    ("h264.ts", "libx264", "yuv420p", {"bf": "3"}),
    ("h264.avi", "libx264", "yuv420p", {"bf": "3"}),
    ("hevc.mov", "libx265", "yuv420p", {"x265-params": "log-level=none", "preset": "ultrafast", "crf": "20"}),
    ("ten_bits.mp4", "libx265", "yuv420p10le", {"x265-params": "log-level=none", "preset": "ultrafast", "crf": "20"}),
    ("vp9.webm", "libvpx-vp9", "yuv420p", {"deadline": "realtime", "cpu-used": "8", "b": "2M"}),
    ("vp8.webm", "libvpx", "yuv420p", {"auto-alt-ref": "1", "lag-in-frames": "10", "cpu-used": "5", "b": "1M"}),
    ("mpeg1.mpg", "mpeg1video", "yuv420p", {"b": "2M"}),
    ("mpeg2.ts", "mpeg2video", "yuv420p", {"b": "2M", "bf": "2"}),
    ("mpeg4.avi", "mpeg4", "yuv420p", {"b": "2M", "bf": "2"}),
    ("mjpeg.avi", "mjpeg", "yuvj420p", {"b": "8M"}),
    ("mjpeg.mov", "mjpeg", "yuvj420p", {"b": "8M"}),
    ("ffv1.mkv", "ffv1", "bgr0", {}),
    ("flv.flv", "flv", "yuv420p", {"b": "2M"}),
]


@pytest.mark.parametrize(("name", "codec", "pix_fmt", "options"), CODECS, ids=[c[0] for c in CODECS])
def test_every_codec_gives_every_picture_in_order(
    tmp_path: Path, scene: Scene, write_film: Maker, name: str, codec: str, pix_fmt: str, options: dict[str, str]
) -> None:
    pictures = scene(30)
    film = write_film(tmp_path / name, pictures, codec=codec, pix_fmt=pix_fmt, options=options)
    frames = frames_of(film, num_threads=1)
    assert [frame.index for frame in frames] == list(range(1, 31))
    assert {frame.source for frame in frames} == {name}
    times = np.array([frame.time_s for frame in frames])
    assert np.allclose(np.diff(times), 0.04, atol=0.0011)  # Matroska has times in milliseconds
    for number, frame in enumerate(frames):
        around = range(max(0, number - 3), min(30, number + 4))
        assert min(around, key=lambda n: difference(frame.image, pictures[n])) == number
        assert difference(frame.image, pictures[number]) < 6
    for frame, threaded in zip(frames, frames_of(film, num_threads=3), strict=True):
        assert frame.time_s == threaded.time_s and difference(frame.image, threaded.image) == 0


def test_gif_and_its_delays(tmp_path: Path, scene: Scene) -> None:
    images = [Image.fromarray(picture).quantize(64) for picture in scene(5)]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=[100, 40, 250, 70, 90])
    frames = frames_of(tmp_path / "a.gif")
    assert [frame.time_s for frame in frames] == [0.0, 0.1, 0.14, 0.39, 0.46]
    for frame, image in zip(frames, images, strict=True):
        assert difference(frame.image, np.asarray(image.convert("RGB"))) < 1


def test_gif_of_one_frame(tmp_path: Path, astronaut: Picture) -> None:
    Image.fromarray(astronaut[:64, :96]).save(tmp_path / "one.gif")
    (frame,) = frames_of(tmp_path / "one.gif")
    assert frame.index == 1 and frame.image is not None and frame.image.shape == (64, 96, 3)


def test_uneven_times_are_exact(tmp_path: Path, scene: Scene, make_video: Maker) -> None:
    times_s = [0.0, 0.017, 0.05, 0.45, 0.4675, 0.5, 0.9, 0.91]
    film = make_video(tmp_path / "vfr.mp4", scene(8), times_s=times_s)
    with av.open(str(film)) as container:
        base = container.streams.video[0].time_base
        stated = sorted(packet.pts * base for packet in container.demux(video=0) if packet.size)
    frames = frames_of(film)
    assert [frame.time_s for frame in frames] == [float(time) for time in stated]
    assert np.allclose([float(time) for time in stated], times_s, atol=1 / 12800)


def test_a_late_start_is_not_shifted(tmp_path: Path, scene: Scene, write_film: Maker) -> None:
    film = write_film(tmp_path / "late.mkv", scene(6), video_start_s=0.4)
    assert [frame.time_s for frame in frames_of(film)] == [0.4, 0.44, 0.48, 0.52, 0.56, 0.6]


def test_avi_with_b_frames_counts_times_from_zero(tmp_path: Path, scene: Scene, write_film: Maker) -> None:
    film = write_film(tmp_path / "b.avi", scene(12), options={"bf": "3"})
    assert [frame.time_s for frame in frames_of(film)] == [n / 25 for n in range(12)]


def test_frames_hidden_by_an_edit_list_are_none(tmp_path: Path, carphone: Path) -> None:
    """A copy whose first packets have negative times: MP4 keeps them for decoding and hides their frames."""
    hidden = tmp_path / "hidden.mp4"
    with av.open(str(carphone)) as source, av.open(str(hidden), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0], opaque=True)
        for packet in source.demux(video=0):
            if packet.size:
                packet.pts -= 7 * 1001
                packet.dts -= 7 * 1001
                packet.stream = stream
                out.mux(packet)
    frames = frames_of(hidden)
    everything = frames_of(carphone)
    assert len(everything) == 120 and len(frames) == 113
    assert frames[0].time_s == 0.0
    assert difference(frames[0].image, everything[7].image) == 0


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", ["", "hflip", "vflip"])
def test_all_quarter_turns_and_mirrors(
    tmp_path: Path, scene: Scene, write_film: Maker, degrees: int, mirrored: str
) -> None:
    picture = scene(1)[0]
    film = tmp_path / "turned.mp4"
    with av.open(str(film), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], "yuv444p"
        stream.set_display_rotation(degrees, hflip=mirrored == "hflip", vflip=mirrored == "vflip")
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    expected = np.rot90(picture, degrees // 90)  # counter-clockwise
    expected = {"": expected, "hflip": expected[:, ::-1], "vflip": expected[::-1]}[mirrored]
    with PyAVSource(film) as source:
        assert (source.info.height, source.info.width) == expected.shape[:2]
        (frame,) = source
    assert difference(frame.image, expected) < 2


def test_orient_moves_every_pixel_where_the_matrix_says() -> None:
    picture = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    for a, b, c, d in [(1, 0, 0, -1), (-1, 0, 0, 1), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, -1, 0), (0, -1, -1, 0)]:
        turned = orient(picture, (a, b, c, d))
        x0, y0 = min(0, 2 * a, c, 2 * a + c), min(0, 2 * b, d, 2 * b + d)
        for y in range(2):
            for x in range(3):
                assert (turned[b * x + d * y - y0, a * x + c * y - x0] == picture[y, x]).all()


@pytest.mark.parametrize(("pix_fmt", "codec"), [("yuv420p", "ffv1"), ("yuv422p", "ffv1"), ("yuv444p", "libx264")])
def test_odd_sizes(tmp_path: Path, scene: Scene, write_film: Maker, pix_fmt: str, codec: str) -> None:
    pictures = scene(3, height=35, width=63)
    frames = frames_of(write_film(tmp_path / "odd.mkv", pictures, codec=codec, pix_fmt=pix_fmt))
    for frame, picture in zip(frames, pictures, strict=True):
        assert difference(frame.image, picture) < 7
        assert difference(frame.image[-1:], picture[-1:]) < 10  # type: ignore[index]
        assert difference(frame.image[:, -1:], picture[:, -1:]) < 10  # type: ignore[index]


def test_gray_of_full_and_of_limited_range(tmp_path: Path, write_film: Maker) -> None:
    levels = np.repeat(np.linspace(0, 255, 64).astype(np.uint8)[None, :, None], 48, axis=0).repeat(3, axis=2)
    (full,) = frames_of(write_film(tmp_path / "full.mkv", [levels], codec="ffv1", pix_fmt="gray"))
    assert difference(full.image, levels) < 2
    limited = tmp_path / "limited.mp4"
    with av.open(str(limited), "w") as container:
        stream = container.add_stream("libx265", rate=25, options={"x265-params": "log-level=none:lossless=1"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "gray"
        frame = av.VideoFrame(64, 48, "gray")
        plane = np.frombuffer(frame.planes[0], np.uint8).reshape(48, -1)
        plane[:, :64] = np.rint(16 + levels[..., 0].astype(float) * 219 / 255)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    (expanded,) = frames_of(limited)
    assert difference(expanded.image, levels) < 2


@pytest.mark.parametrize(("matrix", "kr", "kb"), [(1, 0.2126, 0.0722), (6, 0.299, 0.114), (2, 0.299, 0.114)])
@pytest.mark.parametrize("is_full", [False, True])
def test_colours_follow_the_tags(tmp_path: Path, matrix: int, kr: float, kb: float, is_full: bool) -> None:
    """A film of one colour, converted by formula. Colour spaces: 1 is BT.709, 6 BT.601, 2 untagged (BT.601)."""
    rgb = np.array([200, 90, 60]) / 255
    luma = kr * rgb[0] + (1 - kr - kb) * rgb[1] + kb * rgb[2]
    chroma = np.array([(rgb[2] - luma) / (2 - 2 * kb), (rgb[0] - luma) / (2 - 2 * kr)])
    values = (luma * 255, *(chroma * 255 + 128)) if is_full else (luma * 219 + 16, *(chroma * 224 + 128))
    film = tmp_path / "colour.mp4"
    with av.open(str(film), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "0"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv444p"
        context = stream.codec_context
        context.colorspace, context.color_range = matrix, 2 if is_full else 1
        frame = av.VideoFrame(64, 48, "yuv444p")
        for plane, value in zip(frame.planes, values, strict=True):
            plane.update(bytes([round(value)]) * plane.buffer_size)
        frame.colorspace, frame.color_range = matrix, 2 if is_full else 1
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    (shown,) = frames_of(film)
    assert shown.image is not None and np.abs(shown.image[20, 20].astype(float) - rgb * 255).max() <= 3


def test_transparency_shows_white(tmp_path: Path) -> None:
    film = tmp_path / "alpha.mov"
    with av.open(str(film), "w") as container:
        stream = container.add_stream("qtrle", rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "argb"
        picture = np.zeros((32, 48, 4), np.uint8)
        picture[:, :16], picture[:, 16:32], picture[:, 32:] = (200, 0, 0, 255), (200, 0, 0, 51), (0, 0, 0, 0)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgba")))
        container.mux(stream.encode(None))
    (frame,) = frames_of(film)
    assert frame.image is not None
    assert [tuple(frame.image[5, x]) for x in (5, 20, 40)] == [(200, 0, 0), (244, 204, 204), (255, 255, 255)]


def test_transparent_gif(tmp_path: Path) -> None:
    image = Image.new("P", (40, 30), 0)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.paste(1, (10, 10, 20, 20))
    image.save(tmp_path / "t.gif", transparency=0)
    (frame,) = frames_of(tmp_path / "t.gif")
    assert frame.image is not None
    assert tuple(frame.image[0, 0]) == (255, 255, 255) and tuple(frame.image[15, 15]) == (255, 0, 0)


def test_info(carphone: Path) -> None:
    with PyAVSource(carphone) as source:
        info = source.info
    assert (info.name, info.width, info.height, info.num_frames) == ("carphone_pristine.mp4", 176, 144, 120)
    assert info.frame_rate == Fraction(30000, 1001) and info.time_base == Fraction(1, 30000)
    assert info.duration_s == pytest.approx(4.004)


def test_iterating_twice_and_stopping_half_way(carphone: Path) -> None:
    with PyAVSource(carphone) as source:
        for frame in source:
            if frame.index == 30:
                break
        again = list(source)
        third = list(source)
    assert len(again) == len(third) == 120
    assert all((a.image == b.image).all() for a, b in zip(again, third, strict=True))  # type: ignore[union-attr]


def test_large_pictures_are_decoded_with_threads_to_the_same_end(tmp_path: Path, astronaut: Picture) -> None:
    large = np.tile(astronaut, (2, 3, 1))[:800, :1400]
    pictures = [np.roll(large, 16 * n, axis=1) for n in range(4)]
    film = tmp_path / "large.mp4"
    with av.open(str(film), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.height, stream.width, stream.pix_fmt = 800, 1400, "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        container.mux(stream.encode(None))
    by_default, single = frames_of(film), frames_of(film, num_threads=1)
    assert len(by_default) == 4
    assert all((a.image == b.image).all() for a, b in zip(by_default, single, strict=True))  # type: ignore[union-attr]


def test_a_name_that_looks_like_an_address(tmp_path: Path, scene: Scene, write_film: Maker) -> None:
    film = write_film(tmp_path / "plain.mp4", scene(2))
    assert len(frames_of(film.rename(tmp_path / "take:1 äß %d.mp4"))) == 2


def test_memory_does_not_grow_with_the_film(tmp_path: Path, make_video: Maker) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (8, 144, 176, 3), dtype=np.uint8)
    film = make_video(
        tmp_path / "long.mp4", (noise[n % 8] for n in range(1200)), options={"preset": "ultrafast", "crf": "40"}
    )
    process, before = psutil.Process(), 0
    for frame in PyAVSource(film):
        if frame.index == 300:
            before = process.memory_info().rss
    assert process.memory_info().rss - before < 16_000_000  # the frames between are 68 MB


def test_frames_let_go_of_their_memory_at_once(tmp_path: Path, write_film: Maker) -> None:
    """Frames of megabytes must be freed by reference counting, without the garbage collector."""
    large = [np.full((720, 1280, 3), level, np.uint8) for level in (40, 90)]
    film = write_film(tmp_path / "a.mp4", large * 60, options={"preset": "ultrafast"})
    process = psutil.Process()
    gc.collect()
    gc.disable()
    try:
        with PyAVSource(film) as source:
            frames = iter(source)
            for _ in range(20):  # buffers of the decoder
                next(frames)
            before = process.memory_info().rss
            assert sum(1 for _ in frames) == 100
            grown = process.memory_info().rss - before
    finally:
        gc.enable()
    assert grown < 40e6  # decoded, they have 138 MB
