"""What femae says when something is wrong: one sentence, the right exit status, everything else finished."""

import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from femae.cli import main


def write_sound(path: Path) -> Path:
    """One second of a tone, without pictures."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        stream.layout = "mono"
        samples = (np.sin(np.arange(16000) / 10)[None] * 0.3).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate = 16000
        frame.pts, frame.time_base = 0, Fraction(1, 16000)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def good(tmp_path: Path, astronaut: np.ndarray) -> Path:
    path = tmp_path / "good.png"
    Image.fromarray(astronaut).save(path)
    return path


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.mp4", ("missing.mp4", "does not exist")),
        ("empty.mp4", ("empty.mp4", "empty")),
        ("text.mp4", ("text.mp4",)),
        ("sound.m4a", ("sound.m4a",)),
        ("bare", ("bare", "picture")),
        ("none*.png", ("none*.png",)),
    ],
)
def test_a_bad_input_is_one_sentence_and_the_others_are_finished(
    tmp_path: Path, good: Path, capsys: pytest.CaptureFixture[str], name: str, words: tuple[str, ...]
) -> None:
    bad = tmp_path / name
    if name == "empty.mp4":
        bad.touch()
    elif name == "text.mp4":
        bad.write_text("this is a letter, not a film\n" * 50)
    elif name == "sound.m4a":
        write_sound(bad)
    elif name == "bare":
        bad.mkdir()
        (bad / "notes.txt").write_text("no picture here")
    out = tmp_path / "out"
    assert main(["predict", str(bad), str(good), "--out", str(out)]) == 1
    said = capsys.readouterr().err
    assert all(word.lower() in said.lower() for word in words), said
    assert "Traceback" not in said
    sentences = [line for line in said.splitlines() if name in line]
    assert len(sentences) == 1, said
    assert sorted(path.name for path in out.iterdir()) == ["pictures.csv", "run.journal", "run.json"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["predict"], "inputs"),
        (["predict", "a.mp4", "--detct-every", "2"], "--detect-every"),
        (["predict", "a.mp4", "--detect-every", "0"], "detect-every cannot be 0"),
        (["predict", "a.mp4", "--format", "xls"], "expected one or more of csv, parquet, jsonl"),
        (["predict", "a.mp4", "--rule", "median"], "harmonic"),
        (["predict", "a.mp4", "--classes", "fear+joy"], "'joy' is not a basic emotion"),
        (["predict", "a.mp4", "--weights", "feer=2"], "fear"),
        (["predict", "a.mp4", "--model", "nowhere.onnx"], "there is no model file nowhere.onnx"),
        (["predict", "a.mp4", "--detector", "nowhere.onnx"], "nowhere.onnx"),
        (["predct", "a.mp4"], "did you mean 'predict'"),
    ],
)
def test_wrong_usage_is_status_2_and_says_what_is_right(
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        status = main(arguments)
    except SystemExit as stop:  # tyro's own
        status = int(stop.code or 0)
    said = capsys.readouterr()
    assert status == 2
    assert words in said.err + said.out
    assert "Traceback" not in said.err
    assert list(tmp_path.iterdir()) == []


def test_a_detector_given_as_model_is_refused(tmp_path: Path, good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from femae.faces.retinaface import builtin_weights

    path = tmp_path / "detector.onnx"
    path.write_bytes(builtin_weights())
    assert main(["predict", str(good), "--model", str(path), "--out", str(tmp_path / "out")]) == 2
    assert "is not a femae model" in capsys.readouterr().err


def test_a_file_where_the_folder_should_be(tmp_path: Path, good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").write_text("I am a file")
    assert main(["predict", str(good), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert str(tmp_path / "out") in said and "Traceback" not in said
    assert (tmp_path / "out").read_text() == "I am a file"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path: Path, good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    assert main(["predict", str(good), "--out", str(closed / "out")]) == 1
    assert "ermission" in capsys.readouterr().err


def test_a_full_disk_is_one_sentence_and_leaves_no_half_table(tmp_path: Path, carphone: Path) -> None:
    """A limit on the size of files stands in for a disk that fills up while the table is written."""
    code = f"""
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from femae.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
sys.exit(main(["predict", {str(carphone)!r}, "--out", {str(tmp_path)!r}]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "carphone_pristine.csv" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(tmp_path / "no.mp4"), "--out", str(tmp_path / "out"), "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_ends_soon_and_leaves_what_was_complete(tmp_path: Path, carphone: Path, repeat_film: Any) -> None:
    long = repeat_film(tmp_path / "long.mp4", 25)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "femae", "predict", str(carphone), str(long), "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (out / "carphone_pristine.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.0)
    assert process.poll() is None, "the long film was done before the interruption"
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    _, said = process.communicate(timeout=30)
    assert time.monotonic() - started < 5  # a second on an idle machine
    assert process.returncode == 130
    assert "interrupted" in said and "Traceback" not in said
    names = sorted(path.name for path in out.iterdir())
    assert "carphone_pristine.csv" in names
    assert "long.csv" not in names
    assert not [name for name in names if name.endswith(".part")]
