"""A file that cannot be opened as a film is refused with one sentence that names it."""

import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from femae.errors import InputError
from femae.video.pyav import PyAVSource

Picture = npt.NDArray[np.uint8]
Maker = Callable[..., Path]


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        PyAVSource(path)
    message = str(caught.value)
    assert f"'{path}'" in message and "\n" not in message and len(message) < 400
    return message


def write_song(path: Path, codec: str, *, cover: Picture | None = None) -> Path:
    """A sound file of one second, optionally with cover art."""
    with av.open(str(path), "w", format=path.suffix[1:].replace("m4a", "mp4")) as container:
        stream = container.add_stream(codec, rate=44100)
        stream.layout = "mono"
        art = None
        if cover is not None:
            art = container.add_stream("png", rate=1)
            art.height, art.width, art.pix_fmt = *cover.shape[:2], "rgb24"
            art.disposition = av.stream.Disposition.attached_pic
        if art is not None and cover is not None:
            frame = av.VideoFrame.from_ndarray(cover, format="rgb24")
            container.mux(art.encode(frame))
            container.mux(art.encode(None))
        block = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.int16), format="s16", layout="mono")
        block.sample_rate, block.time_base, block.pts = 44100, Fraction(1, 44100), 0
        container.mux(stream.encode(block))
        container.mux(stream.encode(None))
    return path


def test_missing(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "no.mp4")


def test_folder(tmp_path: Path) -> None:
    assert "is a folder" in refusal(tmp_path)


def test_empty(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    assert "is empty (0 bytes)" in refusal(tmp_path / "empty.mp4")


def test_text_with_the_name_of_a_film(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("This is not a film.\n" * 100)
    assert "is not a film" in refusal(tmp_path / "text.mp4")


@pytest.mark.parametrize("name", ["art.ans", "art.nfo", "notes.txt"])
def test_text_is_not_rendered_as_film(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("\x1b[31mtext\x1b[0m\n" * 300)
    assert "film" in refusal(tmp_path / name)


def test_no_permission(tmp_path: Path, scene: Callable[..., list[Picture]], write_film: Maker) -> None:
    film = write_film(tmp_path / "locked.mp4", scene(2))
    film.chmod(0)
    if os.access(film, os.R_OK):
        pytest.skip("this user may read everything")
    assert "permission" in refusal(film)


@pytest.mark.parametrize(
    ("name", "codec"), [("song.mp3", "libmp3lame"), ("song.m4a", "aac"), ("song.wav", "pcm_s16le")]
)
def test_sound_only(tmp_path: Path, name: str, codec: str) -> None:
    assert "sound but no video" in refusal(write_song(tmp_path / name, codec))


@pytest.mark.parametrize(("name", "codec"), [("song.mp3", "libmp3lame"), ("song.m4a", "aac")])
def test_cover_art_is_no_film(tmp_path: Path, astronaut: Picture, name: str, codec: str) -> None:
    song = write_song(tmp_path / name, codec, cover=np.ascontiguousarray(astronaut[:64, :64]))
    with av.open(str(song)) as container:
        assert len(container.streams.video) == 1
    assert "sound but no video" in refusal(song)


def test_index_never_written(tmp_path: Path, scene: Callable[..., list[Picture]], write_film: Maker) -> None:
    film = write_film(tmp_path / "whole.mp4", scene(20))
    (tmp_path / "cut.mp4").write_bytes(film.read_bytes()[:-2000])
    assert "lacks its index" in refusal(tmp_path / "cut.mp4")
    (tmp_path / "half.mp4").write_bytes(film.read_bytes()[: film.stat().st_size // 2])
    assert "lacks its index" in refusal(tmp_path / "half.mp4")


def test_not_one_picture_decodes(
    tmp_path: Path, scene: Callable[..., list[Picture]], write_film: Maker, spoil: Maker
) -> None:
    film = write_film(tmp_path / "whole.mp4", scene(10))
    noise = spoil(film, tmp_path / "noise.mp4", packets=range(10), kind="zeros")
    assert "no picture that can be decoded" in refusal(noise)


def test_a_still_picture_is_a_film_of_one_frame(tmp_path: Path, astronaut: Picture) -> None:
    from PIL import Image

    Image.fromarray(astronaut).save(tmp_path / "still.dat", "png")
    with PyAVSource(tmp_path / "still.dat") as source:
        (frame,) = source
    assert frame.image is not None and (frame.image == astronaut).all()


def test_nothing_of_ffmpeg_reaches_the_screen(
    tmp_path: Path,
    scene: Callable[..., list[Picture]],
    write_film: Maker,
    spoil: Maker,
    capfd: pytest.CaptureFixture[str],
) -> None:
    film = spoil(write_film(tmp_path / "whole.mp4", scene(20)), tmp_path / "spoilt.mp4", packets=[5, 6, 12])
    capfd.readouterr()
    with PyAVSource(film) as source:
        assert len(list(source)) == 20 and source.problems
    (tmp_path / "text.mp4").write_text("no film" * 100)
    refusal(tmp_path / "text.mp4")
    captured = capfd.readouterr()
    assert captured.err == "" and captured.out == ""
