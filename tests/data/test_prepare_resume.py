"""Interrupting, resuming and repeating `prepare`: nothing is lost or duplicated, no byte changes without need."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from femae.data.prepare.run import PrepareResult, PrepareSettings, Workers, prepare
from femae.data.samples import InlinePicture, PictureFile, PictureRef, RawSample, Reading
from femae.data.store.manifest import read_manifest
from femae.data.store.shard_reader import ShardReader
from femae.errors import DataError, LabelError, OutputError

Pixels = npt.NDArray[np.uint8]


class ListReader:
    """A reader of given samples."""

    def __init__(self, samples: Sequence[RawSample], *, name: str = "set") -> None:
        self.samples = samples
        self.reading = Reading(source=name)

    def __iter__(self) -> Iterator[RawSample]:
        return iter(self.samples)


def raw(key: str, picture: PictureRef, **changes: object) -> RawSample:
    return RawSample(**{"key": key, "picture": picture, "group": "g", **changes})  # type: ignore[arg-type]


def crops(count: int) -> list[RawSample]:
    found = []
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, 24 * 24, np.uint8)
        picture = InlinePicture(pixels=pixels.tobytes(), height=24, width=24)
        found.append(raw(f"{number:03d}", picture, is_crop=True))
    return found


def run(samples: Sequence[RawSample], out: Path, *, num_workers: int = 1, **settings: object) -> PrepareResult:
    return prepare(
        [ListReader(samples)],
        out=out,
        settings=PrepareSettings(**settings),  # type: ignore[arg-type]
        workers=Workers(num=num_workers),
        quiet=True,
    )


def files_of(folder: Path) -> dict[str, tuple[str, int]]:
    """Digest and time of every file, hidden ones too."""
    return {
        str(path.relative_to(folder)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def digests_of(folder: Path) -> dict[str, str]:
    return {name: digest for name, (digest, _) in files_of(folder).items()}


@pytest.fixture
def portrait(tmp_path: Path, astronaut: Pixels) -> Path:
    path = tmp_path / "raw" / "astronaut.png"
    path.parent.mkdir()
    Image.fromarray(astronaut[:320, 60:380]).save(path)
    return path


def test_workers_do_not_change_a_byte(tmp_path: Path, portrait: Path) -> None:
    samples = [raw("face", PictureFile(path=portrait)), *crops(9)]
    run(samples, tmp_path / "one", shard_size=2)
    result = run(samples, tmp_path / "two", shard_size=2, num_workers=2)
    assert (result.num_workers, result.num_units, result.num_pictures) == (2, 5, 10)
    assert digests_of(tmp_path / "one") == digests_of(tmp_path / "two")


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    first = run(crops(5), tmp_path, shard_size=2)
    before = files_of(tmp_path)
    again = run(crops(5), tmp_path, shard_size=2)
    assert not first.nothing_to_do and again.nothing_to_do
    assert files_of(tmp_path) == before
    assert again.info == first.info


def test_a_grown_or_shrunk_data_set_is_followed(tmp_path: Path) -> None:
    run(crops(5), tmp_path / "a", shard_size=2)
    grown = run(crops(8), tmp_path / "a", shard_size=2)
    assert grown.num_units_made == 2  # the last one of the first run, and a new one
    run(crops(8), tmp_path / "fresh", shard_size=2)
    assert digests_of(tmp_path / "a") == digests_of(tmp_path / "fresh")
    shrunk = run(crops(3), tmp_path / "a", shard_size=2)
    assert shrunk.info["num_samples"] == 3
    run(crops(3), tmp_path / "small", shard_size=2)
    assert digests_of(tmp_path / "a") == digests_of(tmp_path / "small")


def test_changed_labels_and_mended_files_are_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_text("broken")
    samples = [raw("a", PictureFile(path=path)), *crops(2)]
    assert run(samples, tmp_path / "out", crops=True).info["num_samples"] == 2
    Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3)).save(path)
    assert run(samples, tmp_path / "out", crops=True).info["num_samples"] == 3
    changed = [raw("a", PictureFile(path=path), split="val"), *crops(2)]
    assert run(changed, tmp_path / "out", crops=True).info["sources"]["set"]["splits"] == {"(none)": 2, "val": 1}


def test_several_sets_share_a_folder(tmp_path: Path) -> None:
    settings = PrepareSettings()
    both = [ListReader(crops(3), name="a"), ListReader(crops(4), name="b")]
    prepare(both, out=tmp_path / "at once", settings=settings, workers=Workers(num=1), quiet=True)
    for reader in both:
        prepare([reader], out=tmp_path / "one by one", settings=settings, workers=Workers(num=1), quiet=True)
    assert digests_of(tmp_path / "at once") == digests_of(tmp_path / "one by one")
    assert len(read_manifest(tmp_path / "at once")) == 7
    with pytest.raises(DataError, match="two data sets are called a"):
        prepare([both[0], both[0]], out=tmp_path / "twice", settings=settings, quiet=True)


def test_other_settings_or_a_strange_folder_are_refused(tmp_path: Path) -> None:
    run(crops(2), tmp_path / "out")
    before = files_of(tmp_path / "out")
    with pytest.raises(DataError, match=r"size 112 \(now 96\)"):
        run(crops(2), tmp_path / "out", size=96)
    assert files_of(tmp_path / "out") == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(DataError, match="not empty"):
        run(crops(2), tmp_path / "mine")
    with pytest.raises(LabelError, match="AU77"):
        run([raw("a", crops(1)[0].picture, action_units={"AU77": 1.0})], tmp_path / "units")


@pytest.mark.skipif(sys.platform == "win32", reason="the lock needs flock")
def test_two_runs_at_once_are_refused(tmp_path: Path) -> None:
    import fcntl

    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        with pytest.raises(OutputError, match="another run"):
            run(crops(2), tmp_path)
    finally:
        os.close(handle)


def test_a_lost_or_cut_shard_is_made_again(tmp_path: Path) -> None:
    run(crops(6), tmp_path, shard_size=2)
    before = digests_of(tmp_path)
    (tmp_path / "shards" / "set-00000.parquet").unlink()
    cut = tmp_path / "shards" / "set-00002.parquet"
    cut.write_bytes(cut.read_bytes()[:50])
    assert run(crops(6), tmp_path, shard_size=2).num_units_made == 2
    assert digests_of(tmp_path) == before


_SCRIPT = """
import sys
from pathlib import Path
from femae.data.prepare.run import PrepareSettings, Workers, prepare
from femae.data.samples import PictureFile, RawSample, Reading

class Reader:
    def __init__(self, path):
        self.path, self.reading = path, Reading(source="set")
    def __iter__(self):
        for n in range(24):
            yield RawSample(key=f"{n:02d}", picture=PictureFile(path=self.path), group="g")

if __name__ == "__main__":
    out, picture, workers = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    try:
        settings = PrepareSettings(shard_size=3)
        prepare([Reader(picture)], out=out, settings=settings, workers=Workers(num=workers), quiet=True)
    except KeyboardInterrupt:
        sys.exit(130)
"""


def start(script: Path, out: Path, picture: Path, *, workers: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, str(script), str(out), str(picture), str(workers)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True)


def wait_for_shards(process: "subprocess.Popen[bytes]", out: Path, *, count: int) -> None:
    until = time.monotonic() + 120
    while len(list((out / "shards").glob("*.parquet"))) < count:
        assert process.poll() is None, f"it ended by itself: {process.communicate()[1].decode()}"
        assert time.monotonic() < until, "no shard within two minutes"
        time.sleep(0.01)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for the workers in /proc")
def test_a_run_killed_again_and_again_ends_like_one_that_was_not(tmp_path: Path, portrait: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT)
    out = tmp_path / "killed"
    for count, workers in ((1, 2), (4, 1)):
        process = start(script, out, portrait, workers=workers)
        wait_for_shards(process, out, count=count)
        process.kill()
        process.wait()
        until = time.monotonic() + 20
        while left := _session_members(process.pid):  # workers do not outlive their parent
            assert time.monotonic() < until, f"still running: {left}"
            time.sleep(0.05)
        assert not (out / "manifest.json").exists()
    samples = [raw(f"{n:02d}", PictureFile(path=portrait)) for n in range(24)]
    for folder in (out, tmp_path / "whole"):
        prepare(
            [ListReader(samples)],
            out=folder,
            settings=PrepareSettings(shard_size=3),
            workers=Workers(num=1),
            quiet=True,
        )
    assert digests_of(out) == digests_of(tmp_path / "whole")
    assert [row["key"] for row in ShardReader(out).rows()] == [f"{n:02d}" for n in range(24)]


class Killed(BaseException):
    """Simulates the end of the process: nothing catches it."""


def test_an_end_before_or_after_any_write_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(crops(7), tmp_path / "whole", shard_size=2)
    expected = digests_of(tmp_path / "whole")
    real = Path.replace
    for stage in ("before", "after"):
        for last in range(1, 30):
            out = tmp_path / f"{stage} {last}"
            left = last

            def replace(self: Path, target: Path, *, stage: str = stage) -> Path:
                nonlocal left
                left -= 1
                if not left and stage == "before":
                    raise Killed
                result = real(self, target)
                if not left:
                    raise Killed
                return result

            monkeypatch.setattr(Path, "replace", replace)
            try:
                run(crops(7), out, shard_size=2)
            except Killed:
                ended = True
            else:
                ended = False
            monkeypatch.setattr(Path, "replace", real)
            run(crops(7), out, shard_size=2)
            assert digests_of(out) == expected, (stage, last)
            if not ended:
                break
        assert last == 10  # settings, four shards, a record, three files of the manifest: nine writes


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_ends_clean(tmp_path: Path, portrait: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT)
    process = start(script, tmp_path / "out", portrait, workers=2)
    wait_for_shards(process, tmp_path / "out", count=1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to parent and workers
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors.decode()
    assert b"Traceback" not in errors, errors.decode()
    assert not list((tmp_path / "out").rglob("*.partial"))
    assert not (tmp_path / "out" / "manifest.json").exists()


def _session_members(session: int) -> list[int]:
    """Living processes of a session."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] not in "ZX":
            found.append(int(folder.name))
    return found


def test_settings_are_written_down(tmp_path: Path) -> None:
    run(crops(1), tmp_path, size=64)
    assert json.loads((tmp_path / "settings.json").read_text())["size"] == 64
    info = read_manifest(tmp_path).info
    assert info["settings"]["size"] == 64 and "pyarrow" in info["versions"]
