"""The live window and its session: newest frames only, recordings that can be read, keys, clear errors."""

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from femae.cli import main
from femae.errors import ConfigError, InputError
from femae.inference.predictor import Predictor
from femae.types import FrameResult
from femae.video.live import LiveSource, find_source
from femae.video.overlay import draw
from femae.webcam.live_window import LiveWindow
from femae.webcam.picture import bar_height, draw_help, paint
from femae.webcam.recorder import Recorder
from femae.webcam.screen import Screen
from femae.webcam.session import ProcessedFrame, Session

needs_pygame = pytest.mark.skipif(not importlib.util.find_spec("pygame"), reason="needs femae[webcam]")


def numbered(count: int) -> list[np.ndarray]:
    """Pictures whose brightness encodes their number, from 1."""
    return [np.full((32, 48, 3), 4 * number, np.uint8) for number in range(1, count + 1)]


def is_over(source: LiveSource) -> bool:
    return source._is_over


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("this never happened")


def recorder_in(folder: Path, predictor: Predictor, source: LiveSource, formats: tuple[str, ...] = ("parquet",)) -> Any:
    numbers = iter(range(1, 99))
    return lambda: Recorder(
        folder,
        stem=f"take-{next(numbers)}",
        formats=formats,
        schema=predictor.schema(),
        draw=partial(draw, compounds=predictor.compounds),
        info=source.info,
    )


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(threads=1)


def test_only_the_newest_frame_waits(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    film = make_video(tmp_path / "n.mp4", numbered(50), rate=Fraction(200))
    with LiveSource(find_source(str(film)), drop=True, paced=True) as source:
        frames = iter(source)
        first = next(frames)
        wait_for(lambda: is_over(source))  # by then all other frames have been read
        last = next(frames)
        assert next(frames, None) is None
    assert (last.index, last.time_s) == (50, pytest.approx(49 / 200, abs=1e-4))
    assert last.image is not None and last.image.mean() > 180
    assert source.num_dropped == 50 - first.index - 1 + (first.index - 1)


def test_a_film_at_full_speed_loses_nothing(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    film = make_video(tmp_path / "n.mp4", numbered(40))
    with LiveSource(find_source(str(film)), drop=False) as source:
        frames = list(source)
    assert [frame.index for frame in frames] == list(range(1, 41)) and source.num_dropped == 0
    assert [frame.time_s for frame in frames] == pytest.approx([number / 25 for number in range(40)])
    assert (source.info.width, source.info.height, source.info.num_frames) == (48, 32, 40)


def test_closing_ends_a_reader_that_waits(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    film = make_video(tmp_path / "n.mp4", numbered(40), rate=Fraction(1))
    for drop, paced in ((True, True), (False, False)):
        with LiveSource(find_source(str(film)), drop=drop, paced=paced) as source:
            frames = iter(source)
            assert next(frames).index == 1
        assert next(frames, None) is None and not source._thread.is_alive()


class SlowEngine:
    """An engine with a delay."""

    def __init__(self, engine: Any) -> None:
        self.spec, self.device, self._engine = engine.spec, engine.device, engine

    def run(self, crops: np.ndarray) -> Any:
        time.sleep(0.15)
        return self._engine.run(crops)


def test_a_slow_engine_drops_frames_and_never_queues_them(carphone: Path, tmp_path: Path) -> None:
    predictor = Predictor(threads=1)
    predictor.engine = SlowEngine(predictor.engine)  # type: ignore[assignment]
    sights: list[ProcessedFrame] = []
    with LiveSource(find_source(str(carphone)), drop=True, paced=True) as source:
        session = Session(source, predictor, new_recorder=recorder_in(tmp_path, predictor, source))
        session.record(True)
        session.run(sights.append)
    indices = [sight.result.frame.index for sight in sights]
    assert indices == sorted(set(indices)) and indices[-1] == 120
    assert len(sights) + source.num_dropped == 120 and source.num_dropped > len(sights)
    arrivals, ready = [sight.arrived_s for sight in sights], [sight.ready_s for sight in sights]
    # Each frame arrived after the previous one was taken, so that latency does not grow.
    assert all(arrivals[k + 1] > arrivals[k] for k in range(len(sights) - 1))
    assert all(arrivals[k + 1] > ready[k - 1] for k in range(1, len(sights) - 1))
    table = pq.read_table(tmp_path / "take-1.parquet")
    assert table["num_dropped"].to_pylist()[-1] == 120 - indices[0] + 1 - len(sights)
    assert table["frame"].to_pylist() == [index - indices[0] + 1 for index in indices]
    with av.open(str(tmp_path / "take-1.annotated.mp4")) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert times == pytest.approx(table["time_s"].to_pylist(), abs=1e-4) and times[0] == 0
    assert session.recordings[0].startswith(f"{len(sights)} frames in ")


def test_live_results_are_what_the_detector_sees_in_each_frame(carphone: Path, predictor: Predictor) -> None:
    with LiveSource(find_source(str(carphone)), drop=False) as source:
        live = list(predictor.live(source))
    film = list(predictor.stream(carphone))
    assert len(live) == len(film) == 120
    assert {face.face_id for result in live for face in result.faces} == {1}
    same = [a.faces[0].compound == b.faces[0].compound for a, b in zip(live, film, strict=True)]
    assert np.mean(same) > 0.9


def test_recording_without_a_window(carphone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["webcam", str(carphone), "--headless", "--record", "--out", str(tmp_path), "--format", "csv,parquet"]
    assert main([*arguments, "--seconds", "1.01"]) == 0
    said = capsys.readouterr().out
    assert "31 frames processed, 0 dropped" in said and "31 frames in 1.0 s recorded, 0 dropped" in said
    (table_path,), (film_path,), (csv_path,) = (list(tmp_path.glob(f"*.{end}")) for end in ("parquet", "mp4", "csv"))
    table = pq.read_table(table_path)
    assert table["frame"].to_pylist() == list(range(1, 32)) and set(table["num_dropped"].to_pylist()) == {0}
    assert csv_path.read_text().count("\n") == 32
    with av.open(str(film_path)) as container:
        frames = list(container.decode(video=0))
    assert len(frames) == 31 and (frames[0].width, frames[0].height) == (176, 144)
    assert not list(tmp_path.glob("*.part"))


def test_the_label_of_a_recording_is_chosen(carphone: Path, tmp_path: Path) -> None:
    frames = []
    for labels in ("expression", "compound"):
        arguments = ["webcam", str(carphone), "--headless", "--record", "--seconds", "0.1", "--labels", labels]
        assert main([*arguments, "--out", str(tmp_path / labels)]) == 0
        (film,) = (tmp_path / labels).glob("*.mp4")
        with av.open(str(film)) as container:
            frames.append(next(container.decode(video=0)).to_ndarray(format="rgb24").astype(int))
    assert np.abs(frames[0] - frames[1]).max() > 100  # different text in the same film


def test_without_a_camera_or_display_one_sentence_says_what_to_do(
    carphone: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    if sys.platform.startswith("linux"):
        for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
            monkeypatch.delenv(name, raising=False)
        assert main(["webcam", str(tmp_path / "video9")]) == 1
        assert "there is no camera at" in (said := capfd.readouterr().err) and said.count("\n") == 1
        if importlib.util.find_spec("pygame"):
            assert main(["webcam", str(carphone)]) == 1
            assert "there is no display" in (said := capfd.readouterr().err) and said.count("\n") == 1
    assert main(["webcam", "none.mp4", "--headless", "--record"]) == 1
    assert "'none.mp4' does not exist" in (said := capfd.readouterr().err) and said.count("\n") == 1
    assert main(["webcam", "rtsp://127.0.0.1:9/x", "--headless", "--record", "--out", str(tmp_path)]) == 1
    assert "the stream 'rtsp://127.0.0.1:9/x' cannot be opened" in (said := capfd.readouterr().err)
    assert said.count("\n") == 1
    assert main(["webcam", str(carphone), "--headless"]) == 2
    assert "add --record" in capfd.readouterr().err


def test_sources_of_other_systems() -> None:
    mac = find_source("", platform="darwin")
    assert (mac.kind, mac.format, mac.address) == ("camera", "avfoundation", "0:none")
    assert find_source("1", platform="darwin").address == "1:none"
    windows = find_source("Integrated Camera", platform="win32")
    assert (windows.format, windows.address) == ("dshow", "video=Integrated Camera")
    with pytest.raises(InputError, match="given by its name"):
        find_source("", platform="win32")
    stream = find_source("rtsp://user:secret@camera.local/x")
    assert (stream.kind, stream.name) == ("stream", "rtsp://camera.local/x")
    assert "secret" in stream.address


def test_wrong_settings_are_named() -> None:
    from femae.config.webcam import WebcamConfig

    with pytest.raises(ConfigError, match="640x480"):
        WebcamConfig(size="640x480p", source="640x480")
    with pytest.raises(ConfigError, match="not a table format"):
        WebcamConfig(format="xlsx")


def test_the_painted_window(astronaut: np.ndarray, predictor: Predictor) -> None:
    result = predictor.predict_image(astronaut)
    bar = bar_height(600)
    annotate = partial(draw, compounds=predictor.compounds)
    plain = paint(result, width=900, height=600, draw=annotate, parts=[("12 frames/s", (255, 255, 255))])
    assert plain.shape == (600, 900, 3)
    assert plain[-bar:].max() > 200 and plain[: 600 - bar, :100].max() < 40, "bar below, dark beside a square picture"
    box = result.faces[0].face.box_xyxy * (600 - bar) / 512
    x, y = (900 - (600 - bar)) // 2 + int(box[0]), int((box[1] + box[3]) / 2)
    assert plain[y, x - 2 : x + 4].max() == 255, "the box is where the face is"
    helped = plain.copy()
    draw_help(helped)
    assert (helped != plain).any()
    for width, height in ((1, 1), (30, 20), (200, 40)):
        tiny = paint(result, width=width, height=height, draw=annotate, parts=[("12 frames/s", (9, 9, 9))])
        draw_help(tiny)
        assert tiny.shape == (height, width, 3)


@needs_pygame
def test_keys_in_a_window(
    carphone: Path, tmp_path: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    import pygame

    screen = Screen("test")
    with LiveSource(find_source(str(carphone)), drop=False) as source:
        session = Session(source, predictor, new_recorder=recorder_in(tmp_path, predictor, source))
        window = LiveWindow(
            screen, session, draw=partial(draw, compounds=predictor.compounds), out=tmp_path, stem="shot"
        )
        looks: dict[str, np.ndarray] = {}
        steps = iter("r h s space space r q".split())
        seen: list[FrameResult] = []

        def press() -> list[str]:
            """Press one key whenever there is a new result, so that there are frames between the keys."""
            newest = session.newest
            if newest is not None and (not seen or newest.result is not seen[-1]) and newest.number >= 3 * len(looks):
                key = {"space": pygame.K_SPACE}.get(step := next(steps)) or pygame.key.key_code(step)
                pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=key))
                surface = pygame.display.get_surface()
                looks[f"{len(looks)} {step}"] = pygame.surfarray.array3d(surface).copy()
                seen.append(newest.result)
            return real()

        real = screen.pressed_keys
        monkeypatch.setattr(screen, "pressed_keys", press)
        window.run()
    assert [name.split()[1] for name in looks] == "r h s space space r q".split()
    assert looks["2 s"].max() == 255 and (looks["2 s"] != looks["1 h"]).mean() > 0.01
    table = pq.read_table(tmp_path / "take-1.parquet")
    assert table.num_rows >= 3 and table["time_s"][0].as_py() == 0
    assert [path.name for path in window.saved] == ["shot-1.png"]
    assert Image.open(tmp_path / "shot-1.png").size == (176, 144)
    assert len(session.recordings) == 1 and session.is_over


@needs_pygame
@pytest.mark.skipif(not (shutil.which("Xvfb") and shutil.which("xdotool")), reason="needs Xvfb and xdotool")
def test_keys_on_a_virtual_display(tmp_path: Path, repeat_film: Callable[[Path, int], Path]) -> None:
    film = repeat_film(tmp_path / "long.mp4", 20)  # ends with q long before it is over
    read_end, write_end = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write_end), "-screen", "0", "1280x900x24", "-nolisten", "tcp"],
        pass_fds=(write_end,),
        stderr=subprocess.DEVNULL,
    )
    os.close(write_end)
    try:
        with os.fdopen(read_end) as pipe:
            display = f":{pipe.readline().strip()}"
        environment = os.environ | {"DISPLAY": display, "OMP_NUM_THREADS": "1"}
        environment.pop("SDL_VIDEODRIVER", None)
        command = [sys.executable, "-m", "femae", "webcam", str(film), "--realtime", "--out", str(tmp_path / "out")]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
            wait_for(lambda: "femae webcam" in _focused(environment))
            _press("r", environment)
            wait_for(lambda: bool(list((tmp_path / "out").glob("*.csv.part"))))
            _press("s", environment)
            wait_for(lambda: bool(list((tmp_path / "out").glob("*.png"))))
            _press("r", environment)
            wait_for(lambda: bool(list((tmp_path / "out").glob("*.csv"))))
            _press("Escape", environment)
            assert process.wait(timeout=60) == 0
            assert process.stdout is not None
            assert "dropped" in process.stdout.read()
    finally:
        server.terminate()
        server.wait(timeout=20)
    (film_path,) = (tmp_path / "out").glob("*.annotated.mp4")
    with av.open(str(film_path)) as container:
        assert sum(1 for _ in container.decode(video=0)) >= 1


def _focused(environment: dict[str, str]) -> str:
    found = subprocess.run(
        ["xdotool", "getwindowfocus", "getwindowname"], env=environment, capture_output=True, text=True, timeout=20
    )
    return found.stdout


def _press(key: str, environment: dict[str, str]) -> None:
    subprocess.run(["xdotool", "key", key], env=environment, check=True, timeout=20)
