"""Films, pictures and tables on a real S3 server and a local web server, also failing ones; results in a bucket."""

import io
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

pytest.importorskip("upath", reason="needs femae[remote]")
boto3 = pytest.importorskip("boto3", reason="needs femae[remote] and moto[server]")

import femae
from femae.cli import main
from femae.video import film_parts, storage
from femae.video.pyav import PyAVSource

BUCKET = "films"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, make_video: Any, astronaut: np.ndarray) -> Path:
    """Two films, a picture and a text file."""
    folder = tmp_path_factory.mktemp("inputs")
    face = astronaut[0:240, 120:360]
    for step, name in ((2, "a.mp4"), (3, "b 1.mp4")):
        make_video(folder / name, [np.roll(face, step * frame, axis=1) for frame in range(12)])
    Image.fromarray(face).save(folder / "p.png")
    (folder / "notes.txt").write_text("neither")
    return folder


@pytest.fixture(scope="module")
def local(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of the same files from the disk."""
    out = tmp_path_factory.mktemp("local") / "out"
    assert predict([str(folder)], str(out)) == 0
    return out


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_WAITS_S", (0.01, 0.02, 0.05))


def predict(inputs: list[str], out: str, *more: str) -> int:
    return main(["predict", *inputs, "--out", out, "--detect-every", "1", *more])


def client(store: Any) -> Any:
    return boto3.client("s3", endpoint_url=store.url)


@pytest.fixture
def bucket(store: Any, folder: Path) -> str:
    """The address of a bucket with the files of the folder."""
    client(store).create_bucket(Bucket=BUCKET)
    for path in folder.iterdir():
        client(store).upload_file(str(path), BUCKET, f"in/{path.name}")
    return f"s3://{BUCKET}/in"


def objects(store: Any, prefix: str = "") -> dict[str, bytes]:
    found = client(store).list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
    return {
        entry["Key"].removeprefix(prefix): client(store).get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read()
        for entry in found
    }


def test_a_folder_in_a_bucket_gives_the_tables_of_the_disk(
    bucket: str, store: Any, local: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict([bucket], str(tmp_path)) == 0
    said = capsys.readouterr()
    for name in ("a.csv", "b 1.csv"):
        assert (tmp_path / name).read_bytes() == (local / name).read_bytes()
    pictures = next(path for path in local.glob("inputs*.csv"))
    assert (tmp_path / "in.csv").read_bytes() == pictures.read_bytes()
    assert f"{bucket}/a.mp4: 12 frames" in said.out and "skipped" in said.out
    record = json.loads((tmp_path / "run.json").read_text())
    assert {entry["input"] for entry in record["inputs"]} == {bucket, f"{bucket}/a.mp4", f"{bucket}/b 1.mp4"}


@pytest.mark.parametrize("pattern", ["*.mp4", "**/*.mp4", "a.*"])
def test_patterns_in_buckets(bucket: str, pattern: str, local: Path, tmp_path: Path) -> None:
    assert predict([f"{bucket}/{pattern}"], str(tmp_path), "--quiet") == 0
    assert (tmp_path / "a.csv").read_bytes() == (local / "a.csv").read_bytes()
    assert (tmp_path / "b 1.csv").exists() == (pattern != "a.*")


def test_results_in_a_bucket_are_those_of_the_disk_and_are_taken_up_again(
    bucket: str, store: Any, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--format", "csv,parquet", "--tables", "summary,segments", "--video", "--report"]
    out = f"s3://{BUCKET}/results/one"
    assert predict([bucket], out, *options) == 0
    said = capsys.readouterr().out
    assert f"-> {out}/a.csv" in said and f"-> {out}/summary.csv" in said and f"-> {out}/a.html" in said
    assert predict([bucket], str(tmp_path / "here"), *options, "--quiet") == 0
    found = objects(store, "results/one/")
    here = {
        path.relative_to(tmp_path / "here").as_posix(): path.read_bytes()
        for path in (tmp_path / "here").rglob("*")
        if path.is_file() and not path.name.startswith("run.")
    }
    assert {name for name in found if not name.startswith("run.")} == set(here)
    for name, data in here.items():
        assert found[name] == data or name.endswith((".html", ".mp4")), name
    assert "in.annotated/p.png" in here and "run.json" in found
    assert json.loads(found["run.json"])["num_taken_over"] == 0

    def tables() -> dict[str, bytes]:
        return {name: data for name, data in objects(store, "results/one/").items() if name.endswith(".csv")}

    before = tables()
    assert predict([bucket], out, *options) == 0
    assert "nothing is left to do" in capsys.readouterr().err and tables() == before
    client(store).delete_object(Bucket=BUCKET, Key="results/one/a.csv")
    client(store).put_object(Bucket=BUCKET, Key="in/b 1.mp4", Body=(folder / "a.mp4").read_bytes())
    assert predict([bucket], out, *options, "--quiet") == 0
    record = json.loads(objects(store, "results/one/")["run.json"])
    assert {Path(entry["input"]).name: entry["taken_over"] for entry in record["inputs"]} == {
        "in": True,
        "a.mp4": False,
        "b 1.mp4": False,
    }
    assert tables()["a.csv"] == before["a.csv"]


def test_a_journal_of_many_objects_is_made_one(bucket: str, store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from femae.inference import journal

    out = f"s3://{BUCKET}/many"
    assert predict([bucket], out, "--quiet") == 0
    assert len(objects(store, "many/run.journal/")) == 3
    monkeypatch.setattr(journal, "_MAX_OBJECTS", 2)
    assert predict([bucket], out, "--quiet") == 0
    assert len(objects(store, "many/run.journal/")) == 1
    assert predict([bucket], out, "--quiet") == 0
    assert json.loads(objects(store, "many/")["run.json"])["num_taken_over"] == 3


def test_a_busy_store_is_asked_again(bucket: str, store: Any, local: Path, tmp_path: Path) -> None:
    busy = b"<Error><Code>SlowDown</Code></Error>"
    store.answer = lambda number, path: ("503 Slow Down", busy) if number % 3 == 0 else None
    assert predict([f"{bucket}/a.mp4"], f"s3://{BUCKET}/busy", "--quiet") == 0
    store.answer = lambda number, path: None
    assert objects(store, "busy/")["a.csv"] == (local / "a.csv").read_bytes()


def test_what_may_not_be_read_or_is_not_there_is_one_sentence(
    bucket: str, store: Any, local: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    denied = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
    store.answer = lambda number, path: ("403 Forbidden", denied) if "b%201" in path or "b 1" in path else None
    inputs = [f"{bucket}/b 1.mp4", f"{bucket}/none.mp4", f"{bucket}/*.webm", f"{bucket}/a.mp4"]
    assert predict(inputs, str(tmp_path)) == 1
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if "b 1.mp4" in line and "may not be read" in line and "credentials" in line]
    assert [line for line in said if "none.mp4' does not exist: check the address" in line]
    assert [line for line in said if "*.webm' matches no file" in line]
    assert "3 of 4 inputs failed" in said[-1] and not [line for line in said if "Traceback" in line]
    assert (tmp_path / "a.csv").read_bytes() == (local / "a.csv").read_bytes()


def test_a_place_that_cannot_be_written_is_one_sentence(
    bucket: str, store: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict([f"{bucket}/a.mp4"], "s3://no-such-bucket/out") == 1
    said = capsys.readouterr().err
    assert "s3://no-such-bucket/out" in said and "bucket does not exist" in said and "Traceback" not in said
    denied = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
    store.answer = lambda number, path: ("403 Forbidden", denied) if store.requests[-1][0] in ("PUT", "POST") else None
    assert predict([f"{bucket}/a.mp4"], f"s3://{BUCKET}/out") == 1
    assert "cannot write" in capsys.readouterr().err
    assert predict([f"{bucket}/a.mp4"], "http://127.0.0.1:9/out") == 2
    assert "web servers can only be read" in capsys.readouterr().err


def test_tables_of_paths_carry_their_columns_into_the_summary(
    bucket: str, store: Any, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pa.table(
        {
            "condition": ["funny", "dull", "none", None],
            "path": ["a.mp4", f"{bucket}/b 1.mp4", "missing.mp4", "p.png"],
            "person": [1, 2, 3, 4],
            "source": ["lab", "home", "home", "lab"],
        }
    )
    pq.write_table(table, folder / "study.parquet")
    assert predict([str(folder / "study.parquet")], str(tmp_path), "--tables", "summary", "--format", "parquet") == 1
    assert f"row 3 of {folder}/study.parquet: '{folder}/missing.mp4' does not exist" in capsys.readouterr().err
    rows = pq.read_table(tmp_path / "summary.parquet").to_pylist()
    assert list(rows[0])[-3:] == ["condition", "person", "source_given"]
    found = {Path(row["source"]).name: (row["condition"], row["person"], row["source_given"]) for row in rows}
    assert found == {
        "a.mp4": ("funny", "1", "lab"),
        "b 1.mp4": ("dull", "2", "home"),
        "study.parquet": (None, "4", "lab"),  # the row of its pictures
    }
    text = "path,note\nin/a.mp4,x\n"
    client(store).put_object(Bucket=BUCKET, Key="list.csv", Body=b"\xef\xbb\xbf" + text.encode())
    assert predict([f"s3://{BUCKET}/list.csv"], str(tmp_path / "2"), "--tables", "summary") == 0
    assert (tmp_path / "2" / "summary.csv").read_text().splitlines()[1].endswith(",x")
    for name, content, words in [
        ("bad.csv", "film\na.mp4\n", "has no column 'path'"),
        ("bad.parquet", "nonsense", "cannot be read as PARQUET"),
        ("empty.csv", "path\n\n \n", "the path is empty"),
    ]:
        (tmp_path / name).write_text(content)
        assert predict([str(tmp_path / name)], str(tmp_path / "3")) == 1
        assert words in capsys.readouterr().err


class Web:
    """A web server with range requests that can be told to fail."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ranges = folder, list[str]()
        self.fault: Callable[[int, int], str] = lambda number, again: ""  # of requests, and of those for the same
        self.asked, self.lock = Counter[tuple[str, str]](), threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                return

            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, *, body: bool) -> None:
                path = folder / Path(self.path.partition("?")[0]).name.replace("%20", " ")
                fault, wanted = "", self.headers.get("Range", "")
                if body:
                    with outer.lock:
                        fault = outer.fault(len(outer.ranges), outer.asked[self.path, wanted])
                        outer.ranges.append(wanted)
                        outer.asked[self.path, wanted] += 1
                if not path.is_file() or fault in ("503", "403"):
                    self.send_error(int(fault) if path.is_file() else 404)
                    return
                data, wanted = path.read_bytes(), wanted.removeprefix("bytes=")
                if wanted and body and fault != "no ranges":
                    first, _, last = wanted.partition("-")
                    start, end = int(first), min(int(last), len(data) - 1)
                    self.send_response(206)
                    self.send_header("Content-Range", f"bytes {start}-{end}/{len(data)}")
                    data = data[start : end + 1]
                else:
                    self.send_response(200)
                    self.send_header("Accept-Ranges", "bytes")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if not body:
                    return
                if fault == "cut":
                    self.wfile.write(data[: len(data) // 2])
                    self.close_connection = True
                    return
                for start in range(0, len(data), 4096):
                    self.wfile.write(data[start : start + 4096])
                    if fault == "slow":
                        time.sleep(0.02)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def web(folder: Path) -> Iterator[Web]:
    served = Web(folder)
    yield served
    served.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Web]:
    """A web server with its own folder."""
    (tmp_path / "site").mkdir()
    served = Web(tmp_path / "site")
    yield served
    served.close()


@pytest.mark.parametrize("fault", ["", "slow", "sometimes cut", "sometimes 503", "no ranges"])
def test_films_and_pictures_of_a_web_server(
    fault: str, web: Web, local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "_CHUNK", 4_000)
    monkeypatch.setattr(storage, "_BLOCK", 4_000)
    kind = fault.removeprefix("sometimes ")
    web.fault = lambda number, again: kind if not fault.startswith("sometimes") or again % 2 == 0 else ""
    inputs = [f"{web.url}/a.mp4?key=1", f"{web.url}/b%201.mp4", f"{web.url}/p.png"]
    assert predict(inputs, str(tmp_path), "--quiet") == 0
    for name in ("a.csv", "b 1.csv"):
        assert (tmp_path / name).read_bytes() == (local / name).read_bytes()
    assert (tmp_path / "pictures.csv").read_bytes() == next(local.glob("inputs*.csv")).read_bytes()
    assert fault == "no ranges" or sum(bool(part) for part in web.ranges) > 4


@pytest.mark.parametrize(
    ("fault", "words"), [("cut", "after 4 tries"), ("503", "after 4 tries"), ("403", "may not be read")]
)
def test_a_web_server_that_fails_for_good(
    fault: str, words: str, web: Web, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    web.fault = lambda number, again: fault
    assert predict([f"{web.url}/a.mp4", f"{web.url}/none.mp4", "http://127.0.0.1:9/x.mp4"], str(tmp_path)) == 1
    said = capsys.readouterr().err
    assert words in next(line for line in said.splitlines() if "a.mp4" in line)
    assert "none.mp4' does not exist" in said
    assert "127.0.0.1:9/x.mp4' cannot be read" in said and "Traceback" not in said


def test_python_reads_addresses_too(web: Web, folder: Path) -> None:
    assert femae.predict(f"{web.url}/a.mp4").table.equals(femae.predict(folder / "a.mp4").table)
    assert femae.predict(f"file://{folder}/b%201.mp4").table.num_rows == 12


def test_a_film_that_does_not_fit_is_refused_before_it_is_copied(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a server without range requests; others need no disk space."""
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda _: storage.shutil._ntuple_diskusage(10, 9, 1))
    assert predict([f"{web.url}/a.mp4"], str(tmp_path / "1")) == 0
    web.fault, num_asked = (lambda number, again: "no ranges"), len(web.ranges)
    assert predict([f"{web.url}/a.mp4"], str(tmp_path / "2")) == 1
    assert "more than is free in" in capsys.readouterr().err and set(web.ranges[num_asked:]) == {"bytes=0-0"}


def test_a_server_that_goes_away_in_the_midst_of_a_film(
    web: Web, local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(storage, "_BLOCK", 1_000)
    film = web.folder / "a.mp4"
    web.fault = lambda number, again: "503" if number > 6 else ""
    assert film.stat().st_size > 9_000
    assert predict([f"{web.url}/a.mp4", str(film)], str(tmp_path)) == 1
    said = capsys.readouterr().err
    assert f"{web.url}/a.mp4' cannot be read, after 4 tries" in said and "ends early" not in said
    assert not (tmp_path / "a.csv").exists() and (tmp_path / "a-2.csv").read_bytes() == (local / "a.csv").read_bytes()


def test_a_remote_file_is_a_file(folder: Path, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads at any offset; sequential reads request nothing twice."""
    monkeypatch.setattr(storage, "_BLOCK", 1_000)
    path = storage.address(f"{web.url}/b%201.mp4")
    want = (folder / "b 1.mp4").read_bytes()
    with storage.RemoteFile(path) as file:
        assert file.name == "b 1.mp4" and file.readall() == want and file.read(10) == b""
    asked = [part for part in web.ranges if part]
    assert len(asked) == len(set(asked)) == -(-len(want) // 1000)
    rng = np.random.default_rng(0)
    with io.BufferedReader(storage.RemoteFile(path), 64) as file, io.BytesIO(want) as own:
        for _ in range(60):
            place, count = int(rng.integers(len(want) + 500)), int(rng.integers(2500))
            assert file.seek(place) == own.seek(place)
            assert file.read(count) == own.read(count) and file.tell() == own.tell()
        assert file.seek(-7, io.SEEK_END) == len(want) - 7 and file.read() == want[-7:]


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("cut.avi", "mpeg4", "yuv420p"),
        ("cut.gif", "gif", "rgb8"),
        ("cut.ts", "mpeg2video", "yuv420p"),
        ("cut.mkv", "libx264", "yuv420p"),
        ("pieces.mp4", "libx264", "yuv420p"),
    ],
)
def test_damage_is_told_from_afar_too(
    name: str,
    codec: str,
    pix_fmt: str,
    site: Web,
    make_video: Any,
    astronaut: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(storage, "_BLOCK", 10_000)
    frames = [np.roll(astronaut[0:240, 120:360], 9 * step, axis=1) for step in range(24)]
    whole = make_video(site.folder / f"whole-{name}", frames, codec=codec, pix_fmt=pix_fmt, options={"g": "6"})
    if name == "pieces.mp4":
        whole = in_pieces(whole, site.folder / "fragments.mp4")
    (site.folder / name).write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.7)])
    with PyAVSource(site.folder / name) as near, PyAVSource(f"{site.url}/{name}") as far:
        for one, other in zip(near, far, strict=True):
            assert (one.index, one.time_s, one.source) == (other.index, other.time_s, other.source)
            assert (one.image is None) == (other.image is None)
            assert one.image is None or np.array_equal(one.image, other.image)
        assert near.problems == far.problems and (near.problems or name == "cut.ts")
        assert near.info == far.info


def in_pieces(film: Path, path: Path) -> Path:
    """The film as fragmented MP4, with an index per group of pictures instead of one for all."""
    with av.open(str(film)) as source, av.open(str(path), "w", options={"movflags": "frag_keyframe+empty_moov"}) as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    return path


def test_of_a_part_of_a_long_film_only_that_part_is_read(
    site: Web, make_video: Any, astronaut: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "_BLOCK", 2_000)
    monkeypatch.setattr(film_parts, "WARM_UP_S", 0.2)
    frames = [np.roll(astronaut[0:240, 120:360], 9 * step, axis=1) for step in range(100)]
    film = make_video(site.folder / "long.mp4", frames)
    parts = film_parts.parts_of(storage.address(f"{site.url}/long.mp4"), part_s=1.0)
    assert parts == film_parts.parts_of(film, part_s=1.0) and len(parts) == 4
    site.ranges.clear()
    with PyAVSource(film) as whole, PyAVSource(f"{site.url}/long.mp4") as far, far.part(parts[2]) as part:
        site.ranges.clear()
        own = [frame.time_s for frame in part if frame.index]
        assert own == [frame.time_s for frame in whole][50:75]
    assert 0 < 2_000 * len([one for one in site.ranges if one]) < 0.6 * film.stat().st_size
