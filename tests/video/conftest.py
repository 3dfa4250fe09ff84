"""Fixtures for films: textured moving pictures, films with sound, damaged films."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

Picture = npt.NDArray[np.uint8]


@pytest.fixture(scope="session")
def scene(astronaut: Picture) -> Callable[..., list[Picture]]:
    """`scene(n, height=120, width=160)`: n crops that slide over a photograph."""

    def cut(n: int, *, height: int = 120, width: int = 160) -> list[Picture]:
        return [
            np.ascontiguousarray(astronaut[60 + i % 100 :][:height, 100 + i % 200 :][:, :width].copy())
            for i in range(n)
        ]

    return cut


@pytest.fixture(scope="session")
def write_film() -> Callable[..., Path]:
    """`write_film(path, pictures, ...)`: a film with sound tracks; see `_write_film`."""
    return _write_film


def _write_film(
    path: Path,
    pictures: Sequence[Picture],
    *,
    codec: str = "libx264",
    sound: str | None = None,
    num_tracks: int = 1,
    sample_rate: int = 48000,
    layout: str = "stereo",
    sound_s: float | None = None,
    video_start_s: float = 0.0,
    sound_start_s: float = 0.0,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    gop: int = 12,
    pix_fmt: str = "yuv420p",
) -> Path:
    """25 frames per second; the sound has a click of 1 kHz for 20 ms every half second."""
    with av.open(str(path), "w", container_options=container_options or {}) as container:
        video = container.add_stream(codec, rate=25, options=options or {})
        video.height, video.width = pictures[0].shape[:2]
        video.pix_fmt = pix_fmt
        video.codec_context.gop_size = gop
        video.codec_context.thread_count = 3  # for equal bytes on every machine: the default is the number of cores
        tracks = [container.add_stream(sound, rate=sample_rate) for _ in range(num_tracks)] if sound else []
        for track in tracks:
            track.layout = layout
        num_samples = round((sound_s or len(pictures) / 25) * sample_rate)
        times = np.arange(num_samples) / sample_rate
        clicks = (np.sin(2 * np.pi * 1000 * times) * (times % 0.5 < 0.02) * 20000).astype(np.int16)
        edges = np.linspace(0, num_samples, len(pictures) + 1).astype(int)
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number + round(video_start_s * 25), Fraction(1, 25)
            container.mux(video.encode(frame))
            for track in tracks:
                part = np.repeat(clicks[edges[number] : edges[number + 1]], track.layout.nb_channels)[None]
                block = av.AudioFrame.from_ndarray(part, format="s16", layout=layout)
                block.sample_rate, block.time_base = sample_rate, Fraction(1, sample_rate)
                block.pts = int(edges[number]) + round(sound_start_s * sample_rate)
                container.mux(track.encode(block))
        for stream in (video, *tracks):
            container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="session")
def spoil() -> Callable[..., Path]:
    """`spoil(film, out, packets=[3, 7])`: a copy in which these video packets are overwritten with noise or zeros."""
    return _spoil


def _spoil(film: Path, out: Path, *, packets: Sequence[int], kind: str = "noise", from_byte: int = 0) -> Path:
    data = bytearray(film.read_bytes())
    with av.open(str(film)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    rng = np.random.default_rng(7)
    for number in packets:
        pos, size = places[number]
        start, size = pos + from_byte, size - from_byte
        data[start : start + size] = (
            rng.integers(0, 256, size, dtype=np.uint8).tobytes() if kind == "noise" else bytes(size)
        )
    out.write_bytes(data)
    return out
