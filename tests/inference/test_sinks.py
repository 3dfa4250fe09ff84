"""Streaming writers: the files on disk after success, after an error, and after an interruption."""

import errno
import json
import os
import subprocess
import sys
import textwrap
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from femae.errors import ConfigError, OutputError
from femae.inference.output_folder import UniqueStems
from femae.inference.sinks import (
    SINKS,
    CsvSink,
    ParquetSink,
    TableSink,
    csv_lines,
    jsonl_lines,
    open_sinks,
)

FORMATS = list(SINKS)
SCHEMA = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("frame", pa.int64(), nullable=False),
        pa.field("time_s", pa.float64()),
        pa.field("x1", pa.float32()),
        pa.field("fear", pa.float32()),
    ],
    metadata={"model": "m"},
)


def make_batch(first: int, *, num_rows: int = 50) -> pa.RecordBatch:
    frames = np.arange(first, first + num_rows)
    columns = [
        pa.array(["clip.mp4"] * num_rows),
        pa.array(frames),
        pa.array(frames / 25),
        pa.array((frames * 0.37).astype(np.float32)),
        pa.array((frames % 100 / 100).astype(np.float32)),
    ]
    return pa.record_batch(columns, schema=SCHEMA)


def frames_in(path: Path) -> list[int]:
    read = {".csv": pl.read_csv, ".parquet": pl.read_parquet, ".jsonl": pl.read_ndjson}[path.suffix]
    frames: list[int] = read(path)["frame"].to_list()  # type: ignore[operator]
    return frames


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def all_formats(folder: Path, *, stem: str = "clip") -> TableSink:
    return open_sinks(folder, stem=stem, formats=FORMATS, schema=SCHEMA)


# --- when all goes well


def test_all_formats_at_once_and_nothing_under_the_final_name_before(tmp_path: Path) -> None:
    sink = all_formats(tmp_path / "new" / "folder")
    folder = tmp_path / "new" / "folder"
    assert sink.paths == [folder / f"clip.{name}" for name in FORMATS]
    for first in range(1, 9001, 50):
        sink.write(make_batch(first))
        if first in (1, 6001):
            assert names_in(folder) == sorted(f"clip.{name}.part" for name in FORMATS)
    sink.close()
    assert names_in(folder) == sorted(f"clip.{name}" for name in FORMATS)
    for path in sink.paths:
        assert frames_in(path) == list(range(1, 9001))
    parquet = pq.ParquetFile(folder / "clip.parquet")
    assert parquet.schema_arrow.equals(SCHEMA, check_metadata=True)
    sizes = [parquet.metadata.row_group(i).num_rows for i in range(parquet.metadata.num_row_groups)]
    assert sizes == [4096, 4096, 9000 - 2 * 4096]


def test_csv_is_written_to_the_letter(tmp_path: Path) -> None:
    batch = pa.record_batch(
        [
            pa.array(['a,"b"\n.mp4', "é.mp4", ""]),
            pa.array([1, 2, 3]),
            pa.array([1001 / 30000, None, 36000.0]),
            pa.array([-0.001, 1234.5678, None], pa.float32()),
            pa.array([1e-9, 0.1, float("nan")], pa.float32()),
        ],
        schema=SCHEMA,
    )
    with CsvSink(tmp_path / "a.csv", schema=SCHEMA) as sink:
        sink.write(batch)
    assert (tmp_path / "a.csv").read_bytes().decode() == (
        "source,frame,time_s,x1,fear\n"
        '"a,""b""\n.mp4",1,0.033367,0.00,0.000000\n'
        "é.mp4,2,,1234.57,0.100000\n"
        ",3,36000.000000,,\n"
    )
    lines = jsonl_lines(batch).splitlines()
    assert lines[1] == '{"source": "é.mp4", "frame": 2, "time_s": null, "x1": 1234.57, "fear": 0.100000}'
    assert json.loads(lines[0]) == {"source": 'a,"b"\n.mp4', "frame": 1, "time_s": 0.033367, "x1": 0.0, "fear": 0.0}


def test_no_number_has_an_exponent() -> None:
    tiny = pa.array([10.0**-k for k in range(12)], pa.float32())
    batch = pa.record_batch(
        [pa.array(["a"] * 12), pa.array(range(12)), tiny.cast(pa.float64()), tiny, tiny], schema=SCHEMA
    )
    assert "e" not in csv_lines(batch)


def test_a_name_like_a_formula_is_kept_as_it_is() -> None:
    names = ["=1+1.mp4", "+a.mp4", "-b.mp4", "@c.mp4"]
    nulls = pa.nulls(4, pa.float32())
    batch = pa.record_batch(
        [pa.array(names), pa.array(range(4)), pa.nulls(4, pa.float64()), nulls, nulls], schema=SCHEMA
    )
    assert [line.split(",")[0] for line in csv_lines(batch).splitlines()] == names


@pytest.mark.parametrize("name", FORMATS)
def test_no_rows_make_a_valid_file(name: str, tmp_path: Path) -> None:
    with SINKS[name](tmp_path / f"a.{name}", schema=SCHEMA) as sink:
        sink.write(make_batch(1, num_rows=0))
    if name == "jsonl":
        assert (tmp_path / "a.jsonl").read_bytes() == b""
    else:
        assert frames_in(tmp_path / f"a.{name}") == []


def test_earlier_results_and_left_over_parts_are_replaced(tmp_path: Path) -> None:
    for name in FORMATS:
        (tmp_path / f"clip.{name}").write_text("old")
        (tmp_path / f"clip.{name}.part").write_text("left by a run that was killed" * 1000)
    with all_formats(tmp_path) as sink:
        sink.write(make_batch(1))
        assert (tmp_path / "clip.csv").read_text() == "old"  # until the new one is complete
    assert names_in(tmp_path) == sorted(f"clip.{name}" for name in FORMATS)
    assert all(frames_in(path) == list(range(1, 51)) for path in sink.paths)


def test_memory_does_not_grow(tmp_path: Path) -> None:
    with all_formats(tmp_path) as sink:
        tracemalloc.start()
        peaks = []
        before = pa.total_allocated_bytes()
        for part in range(3):
            tracemalloc.reset_peak()
            for i in range(200):
                sink.write(make_batch(1 + 50 * (200 * part + i)))
            peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert max(peaks) < 2e6 and peaks[2] < 1.1 * peaks[1] + 1e5
        assert pa.total_allocated_bytes() - before < 2e6


# --- names


def test_stems_never_meet() -> None:
    unique_stem = UniqueStems()
    stems = [
        "clip",
        "clip",
        "Clip",
        "other",
        "CLIP",
        "clip-2",
        "stra\u00dfe",
        "STRASSE",
        "e\u0301t\u00e9",
        "\u00e9te\u0301",
    ]
    assert [unique_stem(stem) for stem in stems] == [
        "clip",
        "clip-2",
        "Clip-3",
        "other",
        "CLIP-4",
        "clip-2-2",
        "stra\u00dfe",
        "STRASSE-2",
        "e\u0301t\u00e9",
        "\u00e9te\u0301-2",
    ]


def test_long_stems_leave_room_for_suffixes(tmp_path: Path) -> None:
    unique_stem = UniqueStems()
    long = "長" * 84  # 252 bytes, a valid name
    stems = [unique_stem(long) for _ in range(12)]
    assert len(set(stems)) == 12
    with all_formats(tmp_path, stem=stems[-1]) as sink:
        sink.write(make_batch(1))
    sink = all_formats(tmp_path, stem=stems[-1])
    sink.write(make_batch(1))
    assert "50 complete rows" in sink.keep_partial()
    assert unique_stem("x" * 220) == "x" * 220


def test_unknown_formats_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'xlsx' is not a table format; expected one or more of csv, parquet, jsonl"):
        open_sinks(tmp_path / "out", stem="a", formats=["csv", "xlsx"], schema=SCHEMA)
    with pytest.raises(ConfigError, match="no table format is given"):
        open_sinks(tmp_path / "out", stem="a", formats=[], schema=SCHEMA)
    assert names_in(tmp_path) == []


# --- when it is interrupted


@pytest.mark.parametrize("num_batches", [1, 100])
def test_interrupted_rows_are_kept_under_another_name(num_batches: int, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt) as caught, all_formats(tmp_path) as sink:
        for i in range(num_batches):
            sink.write(make_batch(1 + 50 * i))
        raise KeyboardInterrupt
    assert names_in(tmp_path) == sorted(f"clip.partial.{name}" for name in FORMATS)
    for name in FORMATS:
        assert frames_in(tmp_path / f"clip.partial.{name}") == list(range(1, 50 * num_batches + 1))
    (note,) = caught.value.__notes__
    assert f"{50 * num_batches} complete rows kept in {tmp_path / 'clip.partial.csv'}" in note


def test_interrupted_before_the_first_row_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt) as caught, all_formats(tmp_path):
        raise KeyboardInterrupt
    assert names_in(tmp_path) == []
    assert "no row of clip.csv was complete" in caught.value.__notes__[0]


def test_half_a_row_is_cut_off(tmp_path: Path) -> None:
    """An interruption during a write leaves bytes after the last complete batch."""
    sink = CsvSink(tmp_path / "clip.csv", schema=SCHEMA)
    sink.write(make_batch(1))
    sink._file.write(b"clip.mp4,51,2.0")
    assert sink.keep_partial() == f"50 complete rows kept in {tmp_path / 'clip.partial.csv'}"
    assert (tmp_path / "clip.partial.csv").read_bytes().endswith(b"clip.mp4,50,2.000000,18.50,0.500000\n")
    assert frames_in(tmp_path / "clip.partial.csv") == list(range(1, 51))


def test_interrupted_after_the_end_says_that_it_is_complete(tmp_path: Path) -> None:
    sink = all_formats(tmp_path)
    sink.write(make_batch(1))
    sink.close()
    assert sink.keep_partial() == "; ".join(f"{path} is complete" for path in sink.paths)
    sink.abort()
    assert names_in(tmp_path) == sorted(f"clip.{name}" for name in FORMATS)


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_signals_at_any_moment_leave_whole_rows(tmp_path: Path) -> None:
    """A process that writes endlessly gets SIGINT at different moments; its partial files hold consecutive frames."""
    code = f"""
        import sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_sinks import all_formats, make_batch
        try:
            with all_formats(Path(sys.argv[1])) as sink:
                first = 1
                while True:
                    sink.write(make_batch(first))
                    first += 50
                    if first == 5001:
                        print("going", flush=True)
        except KeyboardInterrupt as error:
            print(error.__notes__[0])
    """
    for attempt in range(3):
        folder = tmp_path / str(attempt)
        command = [sys.executable, "-c", textwrap.dedent(code), str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "going\n"
            try:
                process.wait(timeout=0.05 * attempt + 0.013)
            except subprocess.TimeoutExpired:
                process.send_signal(2)
            note = process.stdout.read()
        assert process.returncode == 0
        assert names_in(folder) == sorted(f"clip.partial.{name}" for name in FORMATS)
        counts = []
        for name in FORMATS:
            frames = frames_in(folder / f"clip.partial.{name}")
            assert frames == list(range(1, len(frames) + 1)) and len(frames) >= 4096
            counts.append(len(frames))
        assert f"{counts[0]} complete rows kept" in note
        assert max(counts) - min(counts) <= 4096


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_an_interruption_beside_a_row_group_neither_loses_nor_doubles_it(
    after: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pq.ParquetWriter.write_table

    def interrupted(writer: pq.ParquetWriter, table: pa.Table, *, row_group_size: int) -> None:
        monkeypatch.setattr(pq.ParquetWriter, "write_table", whole)
        if after:
            writer.write_table(table, row_group_size=row_group_size)
        raise KeyboardInterrupt

    monkeypatch.setattr(pq.ParquetWriter, "write_table", interrupted)
    with pytest.raises(KeyboardInterrupt), ParquetSink(tmp_path / "clip.parquet", schema=SCHEMA) as sink:
        for first in range(1, 9001, 50):
            sink.write(make_batch(first))
    frames = frames_in(tmp_path / "clip.partial.parquet")
    assert frames == list(range(1, len(frames) + 1)) and len(frames) == 4100


# --- when it goes wrong


@pytest.mark.parametrize("name", FORMATS)
def test_an_error_leaves_nothing(name: str, tmp_path: Path) -> None:
    (tmp_path / f"clip.{name}").write_text("old")
    with pytest.raises(RuntimeError, match="ours"), all_formats(tmp_path) as sink:
        for i in range(100):
            sink.write(make_batch(1 + 50 * i))
        raise RuntimeError("ours")
    assert names_in(tmp_path) == [f"clip.{name}"]
    assert (tmp_path / f"clip.{name}").read_text() == "old"
    sink.abort()  # twice does no harm


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    for folder in (tmp_path / "out", tmp_path / "out" / "deeper"):
        with pytest.raises(OutputError, match=r"the file .*out is where a folder is needed; move it or choose"):
            all_formats(folder)
    assert (tmp_path / "out").read_text() == "a file"


def test_a_folder_where_a_file_should_be_is_found_at_once(tmp_path: Path) -> None:
    (tmp_path / "clip.parquet").mkdir()
    with pytest.raises(OutputError, match=r"cannot write .*clip\.parquet: a folder of that name is in the way"):
        all_formats(tmp_path)
    assert names_in(tmp_path) == ["clip.parquet"]  # the other formats left no .part


def test_a_name_too_long_for_the_disk(tmp_path: Path) -> None:
    for name in FORMATS:
        with pytest.raises(OutputError, match="the name is too long"):
            SINKS[name](tmp_path / f"{'x' * 250}.{name}", schema=SCHEMA)


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Switches to an ordinary user, since root may write everywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.name != "posix", reason="modes of folders are POSIX")
def test_no_permission(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o555)
    with ordinary_user():
        for target in (folder, folder / "new"):
            for name in FORMATS:
                with pytest.raises(OutputError, match="no permission to write there"):
                    open_sinks(target, stem="clip", formats=[name], schema=SCHEMA)
    assert names_in(folder) == []


def write_until_it_fails(sink: TableSink) -> str:
    with pytest.raises(OutputError) as caught:
        for i in range(20_000):
            sink.write(make_batch(1 + 50 * i))
        sink.close()
    return str(caught.value)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a device that is always full")
@pytest.mark.parametrize("name", ["csv", "jsonl"])
@pytest.mark.parametrize("num_batches", [1, 1000])
def test_full_device(name: str, num_batches: int, tmp_path: Path) -> None:
    """The .part is a link to /dev/full, where every write fails with ENOSPC; small tables notice it when closed."""
    (tmp_path / f"clip.{name}.part").symlink_to("/dev/full")
    sink = open_sinks(tmp_path, stem="clip", formats=[name], schema=SCHEMA)
    message = rf"cannot write .*clip\.{name}: the disk is full; free some space or choose"
    with pytest.raises(OutputError, match=message), sink:
        for i in range(num_batches):
            sink.write(make_batch(1 + 50 * i))
    assert names_in(tmp_path) == []


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 128 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "none", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
@pytest.mark.parametrize("formats", [["csv"], ["parquet"], ["jsonl"], FORMATS])
def test_full_disk(formats: list[str], tiny_disk: Path, capfd: pytest.CaptureFixture[str]) -> None:
    message = write_until_it_fails(open_sinks(tiny_disk, stem="clip", formats=formats, schema=SCHEMA))
    assert "the disk is full; free some space or choose another output folder" in message
    assert names_in(tiny_disk) == []
    assert capfd.readouterr() == ("", "")  # no message from the garbage-collected writer


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
@pytest.mark.parametrize("name", FORMATS)
def test_disk_full_while_closing(name: str, tiny_disk: Path) -> None:
    """Only the last bytes, written on close, do not fit."""
    sink = SINKS[name](tiny_disk / f"clip.{name}", schema=SCHEMA)
    sink.write(make_batch(1, num_rows=30 if name != "parquet" else 4000))
    with (tiny_disk / "ballast").open("wb", buffering=0) as ballast, pytest.raises(OSError) as full:
        while True:
            ballast.write(bytes(4096))
    assert full.value.errno == errno.ENOSPC
    with pytest.raises(OutputError, match="the disk is full"):
        sink.close()
    assert names_in(tiny_disk) == ["ballast"]


@pytest.mark.skipif(os.name != "posix", reason="limits of processes are POSIX")
@pytest.mark.parametrize("name", FORMATS)
def test_limit_of_file_size(name: str, tmp_path: Path) -> None:
    code = f"""
        import resource, sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_sinks import SCHEMA, open_sinks, write_until_it_fails
        sink = open_sinks(Path(sys.argv[1]), stem="clip", formats=[sys.argv[2]], schema=SCHEMA)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))
        print(write_until_it_fails(sink))
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path), name]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "it grew larger than the file system or a limit of this account allows" in done.stdout, done.stderr
    assert done.stderr == "" and names_in(tmp_path) == []


def test_one_full_file_drops_the_others(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    (tmp_path / "clip.jsonl.part").symlink_to("/dev/full")
    assert "clip.jsonl" in write_until_it_fails(all_formats(tmp_path))
    assert names_in(tmp_path) == []


def test_parquet_row_groups_hold_however_rows_come(tmp_path: Path) -> None:
    with ParquetSink(tmp_path / "a.parquet", schema=SCHEMA) as sink:
        for num_rows, first in ((1, 1), (10_000, 2), (0, 0), (3, 10_002)):
            sink.write(make_batch(first, num_rows=num_rows))
    assert frames_in(tmp_path / "a.parquet") == list(range(1, 10_005))
    metadata = pq.ParquetFile(tmp_path / "a.parquet").metadata
    assert max(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)) <= 4096
