"""Resumed runs: after a crash, after Ctrl-C, with other files, settings, models."""

import csv
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from femae.cli import main
from femae.inference.journal import JOURNAL_NAME, LocalJournal
from femae.inference.work_unit import UnitRecord

NUM_FRAMES = 10
OPTIONS = ["--detect-every", "1", "--tables", "summary", "--format", "csv,parquet"]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory, make_video: Any, astronaut: np.ndarray) -> list[Path]:
    """Six films of ten frames with a moving face."""
    folder = tmp_path_factory.mktemp("films")
    face = astronaut[0:240, 120:360]
    paths = []
    for number in range(6):
        pictures = [np.roll(face, 2 * frame + 5 * number, axis=1) for frame in range(NUM_FRAMES)]
        paths.append(make_video(folder / f"film{number}.mp4", pictures))
    return paths


def predict(paths: list[Path], out: Path, *more: str) -> int:
    return main(["predict", *map(str, paths), "--out", str(out), *OPTIONS, *more])


def tables(out: Path) -> dict[str, bytes]:
    """The tables of a folder; Parquet files by their rows, ignoring metadata."""
    return {path.name: path.read_bytes() for path in sorted(out.glob("*.csv"))}


def entries(out: Path) -> dict[str, dict[str, Any]]:
    return {Path(entry["input"]).name: entry for entry in json.loads((out / "run.json").read_text())["inputs"]}


def taken_over(out: Path) -> list[str]:
    return [name for name, entry in entries(out).items() if entry.get("taken_over")]


@pytest.fixture(scope="module")
def fresh(films: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a complete run."""
    out = tmp_path_factory.mktemp("fresh") / "out"
    assert predict(films, out) == 0
    return out


@pytest.fixture
def done(fresh: Path, tmp_path: Path) -> Path:
    """A copy of it, to be resumed."""
    return Path(shutil.copytree(fresh, tmp_path / "out"))


def test_the_record_of_a_run(fresh: Path, films: list[Path]) -> None:
    record = json.loads((fresh / "run.json").read_text())
    assert record["state"] == "done" and record["num_inputs"] == 6 and record["num_taken_over"] == 0
    assert record["settings"]["detect_every"] == 1 and record["settings"]["model_name"].startswith("femae")
    assert record["versions"]["femae"] and record["machine"]["cores"] == os.cpu_count()
    for path, entry in zip(films, record["inputs"], strict=True):
        rows = list(csv.DictReader((fresh / f"{path.stem}.csv").open()))
        assert entry["input"] == str(path) and entry["num_rows"] == len(rows) == NUM_FRAMES
        assert entry["num_faces"] == sum(row["status"] == "ok" for row in rows)
        assert entry["outputs"][f"{path.stem}.csv"] == (fresh / f"{path.stem}.csv").stat().st_size
        assert not entry["taken_over"] and entry["seconds"] > 0


def test_the_same_command_does_nothing_twice_and_says_so(
    done: Path, films: list[Path], fresh: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in done.glob("film*")}
    assert predict(films, done) == 0
    said = capsys.readouterr()
    assert {path.name: path.stat().st_mtime_ns for path in done.glob("film*")} == before
    assert tables(done) == tables(fresh) and len(taken_over(done)) == 6
    assert "nothing is left to do" in said.err and "--overwrite" in said.err
    assert said.out.count("frames/s") == 6  # the summaries are printed again
    assert predict(films, done, "--overwrite") == 0
    assert taken_over(done) == [] and tables(done) == tables(fresh)


@pytest.mark.parametrize("damage", ["removed", "cut", "changed input", "torn journal", "no journal", "nonsense"])
def test_what_is_missing_or_changed_is_done_anew(
    damage: str, done: Path, films: list[Path], fresh: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = list(films)
    journal = done / JOURNAL_NAME
    again = {"film2.mp4"}
    if damage == "removed":
        (done / "film2.csv").unlink()
    elif damage == "cut":
        (done / "film2.csv").write_bytes((done / "film2.csv").read_bytes()[:-20])
    elif damage == "changed input":
        inputs[2] = tmp_path / "film2.mp4"
        shutil.copy(films[2], inputs[2])
    elif damage == "torn journal":
        journal.write_bytes(journal.read_bytes()[:-30])
        again = {"film5.mp4"}
    elif damage == "no journal":
        journal.unlink()
        again = {path.name for path in films}
    else:
        journal.write_bytes(b'\x00\xff{"done": 3}\n[]\n7\n' + journal.read_bytes() + b'{"done": {"stem": "film0"}}\n')
        again = set()
    assert predict(inputs, done, "--quiet") == 0
    assert {path.name for path in films} - set(taken_over(done)) == again
    if damage != "changed input":  # the summary names it by its other path
        assert tables(done) == tables(fresh)
    assert predict(inputs, done, "--quiet") == 0
    assert len(taken_over(done)) == 6


def test_other_settings_are_done_anew_and_named(
    done: Path, films: list[Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert predict(films[:3], done, "--smooth", "0.5") == 0
    assert "3 inputs done before, processed again (other settings: smooth)" in capsys.readouterr().err
    assert predict(films[:3], tmp_path / "other", "--smooth", "0.5") == 0
    for path in films[:3]:
        assert (done / f"{path.stem}.csv").read_bytes() == (tmp_path / "other" / f"{path.stem}.csv").read_bytes()
    capsys.readouterr()
    assert predict(films, done) == 0  # the first three have the other settings now
    assert taken_over(done) == [path.name for path in films[3:]]


def test_another_model_is_other_settings(done: Path, films: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert predict(films[:1], done, "--model", "femae:model.int8") == 0
    said = capsys.readouterr().err
    assert "other settings: model" in said and taken_over(done) == []


def test_two_inputs_of_one_name_are_told_apart(done: Path, films: list[Path], tmp_path: Path) -> None:
    other = tmp_path / "film0.mp4"
    shutil.copy(films[1], other)
    assert predict([other], done) == 0  # replaces film0.csv
    assert (done / "film0.csv").read_text() == (done / "film1.csv").read_text().replace("film1.mp4", "film0.mp4")
    assert predict(films[:1], done) == 0
    assert taken_over(done) == []


def test_failures_are_tried_again(films: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "later.mp4"
    out = tmp_path / "out"
    assert predict([films[0], missing], out) == 1
    entry = entries(out)["later.mp4"]
    assert "does not exist" in entry["error"] and "outputs" not in entry
    shutil.copy(films[1], missing)
    capsys.readouterr()
    assert predict([films[0], missing], out) == 0
    assert taken_over(out) == ["film0.mp4"]


def test_problems_of_a_film_that_is_taken_over_count_as_they_did(
    make_video: Any, astronaut: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = make_video(tmp_path / "whole.mkv", [np.roll(astronaut[0:240, 120:360], 9 * k, axis=0) for k in range(20)])
    film = tmp_path / "damaged.mkv"
    film.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.7)])
    for _ in range(2):
        assert predict([film], tmp_path / "out") == 1
        said = capsys.readouterr().err
        assert "ends early" in said
    assert taken_over(tmp_path / "out") == ["damaged.mkv"]


def _words(paths: list[Path], out: Path) -> list[str]:
    return ["predict", *map(str, paths), "--out", str(out), *OPTIONS]


def _command(paths: list[Path], out: Path) -> list[str]:
    return [sys.executable, "-m", "femae", *_words(paths, out)]


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_run_that_was_killed_goes_on(
    blow: signal.Signals, films: list[Path], fresh: Path, command_forker: Any, tmp_path: Path
) -> None:
    out, kills = tmp_path / "out", 0
    for wanted in (1, 3, 5):  # killed a little later each time
        before = _num_done(out)
        process = command_forker.start_femae(*_words(films, out), log=tmp_path / f"{wanted}.log")
        deadline = time.monotonic() + 100
        while process.is_running() and _num_done(out) < wanted and time.monotonic() < deadline:
            time.sleep(0.005)
        if process.is_running():
            os.kill(process.pid, blow)
            kills += 1
        status, said = process.wait(), process.log.read_text()
        in_the_midst = before < _num_done(out) < len(films)  # neither while starting nor when all was done
        if blow == signal.SIGINT and status == 130 and in_the_midst:
            assert "the same command continues with the others" in said
            assert json.loads((out / "run.json").read_text())["state"] == "interrupted"
        assert "Traceback" not in said
    assert kills >= 2
    done_before = _num_done(out)
    assert predict(films, out) == 0
    assert len(taken_over(out)) >= min(done_before, 5)
    assert tables(out) == tables(fresh)
    assert not list(out.glob("*.lock"))


def _num_done(out: Path) -> int:
    try:
        return (out / JOURNAL_NAME).read_bytes().count(b'{"done"')
    except FileNotFoundError:
        return 0


def test_two_commands_at_once_share_a_folder_but_not_an_output(
    films: list[Path], fresh: Path, command_forker: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    first = subprocess.Popen(_command(films[:3], out), stderr=subprocess.PIPE, text=True)
    second = command_forker.start_femae(*_words(films[3:], out), log=tmp_path / "second.log")
    assert (first.wait(timeout=200), second.wait()) == (0, 0)
    assert predict(films, out) == 0
    assert len(taken_over(out)) == 6 and tables(out) == tables(fresh)

    from femae.errors import OutputError
    from femae.inference.output_folder import lock_outputs

    with (
        lock_outputs(out, "film0"),
        pytest.raises(OutputError, match="another process is writing the outputs film0"),
        lock_outputs(out, "film0"),
    ):
        raise AssertionError
    with lock_outputs(out, "film0"):
        third = command_forker.start_femae(*_words(films[:2], out), "--overwrite", log=tmp_path / "third.log")
        assert third.wait() == 1 and "another process is writing the outputs film0" in third.log.read_text()
    assert tables(out)["film0.csv"] == tables(fresh)["film0.csv"]


def test_a_fault_of_ours_does_not_cost_the_other_inputs(
    films: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from femae.inference import work

    real = work.process_item

    def faulty(source: Any, **values: Any) -> Any:
        if values["wanted"].stem == "film1":
            raise ZeroDivisionError("a fault")
        return real(source, **values)

    monkeypatch.setattr(work, "process_item", faulty)
    assert predict(films[:3], tmp_path / "out", "--debug") == 1
    said = capsys.readouterr().err
    assert "film1.mp4: a bug in femae" in said and "Traceback" in said
    assert sorted(tables(tmp_path / "out")) == ["film0.csv", "film2.csv", "summary.csv"]


def test_a_journal_that_cannot_be_written_costs_no_table(
    films: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (out / JOURNAL_NAME).mkdir(parents=True)
    assert predict(films[:1], out) == 1
    assert JOURNAL_NAME in capsys.readouterr().err


def test_the_journal_of_many_inputs(tmp_path: Path) -> None:
    """Records are read back as written; the last one of a stem counts."""
    settings = {"smooth": 0.0}
    with LocalJournal(tmp_path, settings=settings) as journal:
        for number in [*range(500), 7]:
            journal.add(_record(f"clip{number}", seconds=float(number)))
            journal.add(_record("same", seconds=float(number)))
    again = LocalJournal(tmp_path, settings=settings)
    assert again.record_of("clip321") == _record("clip321", seconds=321.0)
    last = again.record_of("same")
    assert last is not None and last.seconds == 7.0
    assert again.record_of("nothing") is None
    assert len((tmp_path / JOURNAL_NAME).read_bytes().splitlines()) == 1003


def _record(stem: str, *, seconds: float) -> UnitRecord:
    return UnitRecord(
        input=f"{stem}.mp4",
        kind="video",
        stem=stem,
        identity=hashlib.sha256(stem.encode()).hexdigest()[:32],
        outputs={f"{stem}.csv": 7},
        num_rows=1,
        num_frames=1,
        num_no_face=0,
        num_unreadable=0,
        num_faces=1,
        seconds=seconds,
        finished="2026-11-27T00:00:00+00:00",
    )
