"""The server of the page: jobs from upload to download, limits, cancellation, refused requests."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
from PIL import Image

from femae.app.child import _Inbox, _Request
from femae.app.server import WorkFolder, run_app
from femae.config.app import AppConfig
from femae.config.predict import DetectConfig, RuleConfig
from femae.errors import ConfigError, InputError, ModelError

Serve = Callable[..., Any]


def png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return buffer.getvalue()


# The worker process unpickles these functions by their names.
def short_report(table: Path, *, subject: Path, out: Path, title: str, advance: Callable[[], None], **_: Any) -> None:
    num_rows = pq.read_table(table).num_rows
    advance()
    out.write_text(f"<p>{title}, {num_rows} rows, {subject.stat().st_size} bytes</p>")


def report_of_labels(table: Path, *, labels: str, out: Path, **_: Any) -> None:
    out.write_text(labels)


def no_report(table: Path, **_: Any) -> None:
    raise InputError(f"{table} is not to my taste")


def test_a_film_from_upload_to_download(serve: Serve, carphone: Path) -> None:
    served = serve(make_report=short_report)
    job = served.start_job(("my%20film.mp4", carphone.read_bytes()), rules={"smooth": 0.2, "rule": "product"})
    view = served.wait(job, "done", "failed")
    assert (view["state"], view["message"], view["problems"]) == ("done", "", [])
    assert (view["name"], view["done"], view["total"], view["position"]) == ("my film.mp4", 120, 120, 0)
    keys = [file["key"] for file in view["files"]]
    assert keys == ["table.csv", "table.parquet", "table.jsonl", "film.mp4", "report.html"]
    answers = {key: served.client.get(f"api/jobs/{job['id']}/files/{key}?download") for key in keys}
    assert all(answer.headers["content-disposition"].startswith("attachment") for answer in answers.values())
    table = pq.read_table(io.BytesIO(answers["table.parquet"].content))
    assert table.num_rows == 120 and set(table["source"].to_pylist()) == {"my film.mp4"}
    assert b'"rule":"product"' in table.schema.metadata[b"rules"] and "raw_surprise" in table.schema.names
    assert answers["table.csv"].text.count("\n") == 121
    assert [json.loads(line)["frame"] for line in answers["table.jsonl"].text.splitlines()] == list(range(1, 121))
    assert answers["film.mp4"].content[4:8] == b"ftyp"
    part = served.client.get(f"api/jobs/{job['id']}/files/film.mp4", headers={"Range": "bytes=4-7"})
    assert (part.status_code, part.content) == (206, b"ftyp")
    report = served.client.get(f"api/jobs/{job['id']}/files/report.html")
    assert report.text == f"<p>my film.mp4, 120 rows, {carphone.stat().st_size} bytes</p>"
    assert report.headers["content-security-policy"].startswith("sandbox allow-scripts")
    rows = served.client.get(f"api/jobs/{job['id']}/rows?offset=110&limit=50").json()
    assert (rows["total"], len(rows["rows"])) == (120, 10)
    assert rows["rows"][0][rows["columns"].index("frame")] == 111
    look = served.client.get(f"api/jobs/{job['id']}/files/look.json").json()
    assert look["num_faces"] == 120 and [face["id"] for face in look["faces"]] == [1]
    stretches = look["faces"][0]["stretches"]
    assert stretches[0][0] == look["start_s"]
    assert all(a[1] == pytest.approx(b[0], abs=0.002) for a, b in pairwise(stretches))
    assert not (served.folder / "jobs" / job["id"] / "in").exists()
    assert served.client.delete(f"api/jobs/{job['id']}").status_code == 204
    assert not (served.folder / "jobs" / job["id"]).exists()
    assert served.client.get(f"api/jobs/{job['id']}").status_code == 404


@pytest.mark.parametrize("started_with", ["expression", "compound"])
def test_the_label_that_is_shown_is_chosen_at_the_start_and_on_the_page(
    serve: Serve, astronaut: np.ndarray, started_with: str
) -> None:
    seen: list[str] = []
    served = serve(make_report=report_of_labels, labels=started_with)
    assert served.client.get("api/choices").json()["labels"][0][0] == started_with
    shares = {}
    for settings in ({}, {"labels": "expression"}, {"labels": "compound"}):
        job = served.start_job(("a.png", png(astronaut)), **settings)
        assert served.wait(job, "done", "failed")["state"] == "done"
        look = served.client.get(f"api/jobs/{job['id']}/files/look.json").json()
        seen.append(served.client.get(f"api/jobs/{job['id']}/files/report.html").text)
        shares[settings.get("labels", "")] = look["shares"]
        assert look["labels"] == seen[-1]
        happy = next(style for style in look["styles"] if style["name"] == "Happily Surprised")
        assert len(happy["colours"]) == 2 and all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in happy["colours"])
    assert shares["expression"] == [["happiness", 1]] and shares["compound"] == [["Happily Surprised", 1]]
    assert shares[""] == shares[started_with] and seen == [started_with, "expression", "compound"]


def test_pictures_make_one_job_whatever_they_are_called(serve: Serve, astronaut: np.ndarray) -> None:
    served = serve(max_pictures=3)
    names = ["../../etc/passwd.png", "<img src=x onerror=alert(1)>.png", "C:\\a\\b\u202egnp.png"]
    job = served.start_job(*((quote(name), png(astronaut)) for name in names))
    view = served.wait(job, "done", "failed")
    assert (view["state"], view["name"], view["done"]) == ("done", "3 pictures", 3)
    shown = ["passwd.png", "img src=x onerror=alert(1)>.png", "bgnp.png"]
    assert view["facts"]["pictures"] == [shown[0], "<" + shown[1], shown[2]]
    stored = sorted(path.name for path in served.folder.rglob("*.png"))
    assert stored == ["0001.png", "0002.png", "0003.png"]
    archive = zipfile.ZipFile(io.BytesIO(served.client.get(f"api/jobs/{job['id']}/files/pictures.zip").content))
    assert archive.namelist()[0] == "0001 passwd.png"
    assert not any(set("/\\<>") & set(name) for name in archive.namelist())
    picture = served.client.get(f"api/jobs/{job['id']}/files/picture-1.png")
    assert np.asarray(Image.open(io.BytesIO(picture.content))).shape == astronaut.shape
    created = served.post("api/jobs", json={}).json()
    codes = [
        served.post(f"api/jobs/{created['id']}/files", content=png(astronaut), headers={"X-File-Name": f"{k}.png"})
        for k in range(4)
    ]
    assert [code.status_code for code in codes] == [200, 200, 200, 413]
    assert "up to 3 pictures" in codes[3].json()["error"]


def test_pictures_get_a_report_by_their_own_names(serve: Serve, astronaut: np.ndarray) -> None:
    from femae.cli.commands import _write_app_report

    served = serve(make_report=_write_app_report)
    names = ["a.png", "<img src=x onerror=alert(1)>.png"]
    job = served.start_job(*((quote(name), png(astronaut)) for name in names))
    view = served.wait(job, "done", "failed")
    assert (view["state"], view["problems"]) == ("done", [])
    page = served.client.get(f"api/jobs/{job['id']}/files/report.html").text
    assert page.count("data:image/jpeg") >= 2 and "2 pictures" in page
    assert "a.png" in page and "<img src=x" not in page and "&lt;img src=x" in page


def test_bad_files_say_why_by_the_users_own_name(serve: Serve, short_film: Path) -> None:
    served = serve()
    job = served.start_job(("no film.mp4", b"this is no film at all" * 99))
    view = served.wait(job, "done", "failed")
    assert view["state"] == "failed" and "no film.mp4" in view["message"] and "not a film" in view["message"]
    assert "femae-app" not in view["message"] and "0001" not in view["message"]
    assert not (served.folder / "jobs" / job["id"]).exists()
    created = served.post("api/jobs", json={}).json()
    empty = served.post(f"api/jobs/{created['id']}/files", content=b"", headers={"X-File-Name": "a.mp4"})
    assert empty.status_code == 400 and "empty" in empty.json()["error"]
    assert served.post(f"api/jobs/{created['id']}/start").status_code == 400
    for content, name in ((short_film.read_bytes(), "a.mp4"), (b"x", "b.png")):
        mixed = served.post(f"api/jobs/{created['id']}/files", content=content, headers={"X-File-Name": name})
    assert mixed.status_code == 400 and "one film or pictures" in mixed.json()["error"]


def test_settings_are_checked_in_words(serve: Serve) -> None:
    served = serve(max_jobs=1)
    for settings, word in (
        ({"rules": {"rule": "mean"}}, "rule"),
        ({"rules": {"classes": "fear+joy"}}, "joy"),
        ({"rules": {"smooth": -1}}, "smooth"),
        ({"models": 1}, "model"),
        ({"model": 7}, "no model number 7"),
        ({"detect": {"detector": "/etc/passwd"}}, "detector"),
    ):
        answer = served.post("api/jobs", json=settings)
        assert answer.status_code == 400 and word in answer.json()["error"], settings
    assert served.post("api/jobs", content=b"[1]").status_code == 400
    assert served.post("api/jobs", content=b"{" * 70_000).status_code == 413
    assert served.post("api/jobs", json={}).status_code == 201
    full = served.post("api/jobs", json={})
    assert full.status_code == 429 and "most at a time" in full.json()["error"]


def test_too_large_is_refused_while_it_streams(serve: Serve) -> None:
    served = serve(max_upload_mb=1)
    job = served.post("api/jobs", json={}).json()
    told = served.post(f"api/jobs/{job['id']}/files", content=b"x" * 1_000_001, headers={"X-File-Name": "a.mp4"})
    assert told.status_code == 413 and "up to 1 MB" in told.json()["error"]
    sent = 0

    def endless() -> Any:
        nonlocal sent
        for _ in range(400):
            sent += 65_536
            yield b"x" * 65_536

    try:  # without a length, the server counts; it stops reading, and may close the connection early
        untold = served.post(f"api/jobs/{job['id']}/files", content=endless(), headers={"X-File-Name": "b.mp4"})
        assert untold.status_code == 413
    except (httpx.WriteError, httpx.RemoteProtocolError, httpx.ReadError):
        pass
    assert sum(path.stat().st_size for path in served.folder.rglob("*.mp4")) == 0
    assert served.look(job)["state"] == "uploading"


def test_long_films_are_refused(serve: Serve, long_film: Path) -> None:
    served = serve(max_minutes=0.2)
    view = served.wait(served.start_job(("l.mp4", long_film.read_bytes())), "done", "failed")
    assert view["state"] == "failed" and "longer than 0.2 minutes" in view["message"] and view["done"] == 0


def test_two_jobs_at_once_wait_in_order_and_can_be_cancelled(serve: Serve, long_film: Path, short_film: Path) -> None:
    served = serve()
    first = served.start_job(("first.mp4", long_film.read_bytes()))
    second = served.start_job(("second.mp4", long_film.read_bytes()))
    third = served.start_job(("third.mp4", short_film.read_bytes()))
    running = served.wait(first, "running")
    assert [served.look(job)["position"] for job in (second, third)] == [1, 2]
    assert served.post(f"api/jobs/{second['id']}/cancel").json()["state"] == "cancelled"
    assert not (served.folder / "jobs" / second["id"]).exists()
    assert served.look(third)["position"] == 1
    with served.paused(first):
        running = served.look(first)
        assert running["total"] == 1440 and running["rate"] > 0
        assert list((served.folder / "jobs" / first["id"]).rglob("*.part")), "written under temporary names"
        served.post(f"api/jobs/{first['id']}/cancel")
    assert served.wait(first, "cancelled")["done"] < 1440
    assert not (served.folder / "jobs" / first["id"]).exists()
    assert served.wait(third, "done", "failed")["state"] == "done"
    fourth = served.start_job(("fourth.mp4", long_film.read_bytes()))
    served.wait(fourth, "running")
    assert served.client.delete(f"api/jobs/{fourth['id']}").status_code == 204
    for _ in range(400):
        if not (served.folder / "jobs" / fourth["id"]).exists():
            break
        time.sleep(0.05)
    assert not (served.folder / "jobs" / fourth["id"]).exists()


def test_a_job_cancelled_before_the_worker_takes_it_stays_cancelled(tmp_path: Path) -> None:
    inbox = _Inbox()
    for name in "ab":
        request = _Request(
            id=name,
            folder=tmp_path,
            model=None,
            detect=DetectConfig(),
            rules=RuleConfig(),
            labels="expression",
            uploads=[],
        )
        inbox.put(request)
        if name == "a":
            inbox.put(None)
        taken, cancelled = inbox.next()
        assert (taken.id, cancelled.is_set()) == (name, name == "a")


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (signal.SIGKILL, "killed by the system (SIGKILL), usually for lack of memory"),
        (signal.SIGSEGV, "crashed (SIGSEGV)"),
    ],
)
def test_a_crash_in_the_midst_ends_one_job_and_not_the_server(
    serve: Serve, long_film: Path, short_film: Path, number: int, sentence: str
) -> None:
    served = serve()
    first = served.start_job(("first.mp4", long_film.read_bytes()))
    second = served.start_job(("second.mp4", short_film.read_bytes()))
    with served.paused(first):
        (worker,) = served.workers()
        worker.send_signal(number)
    view = served.wait(first, "done", "failed")
    assert view["state"] == "failed" and sentence in view["message"] and "make it smaller" in view["message"]
    assert not (served.folder / "jobs" / first["id"]).exists()
    assert served.wait(second, "done", "failed")["state"] == "done"
    third = served.start_job(("third.mp4", short_film.read_bytes()))
    assert served.wait(third, "done", "failed")["state"] == "done"
    assert served.workers()[0].pid != worker.pid


def test_a_worker_that_died_while_nothing_was_to_do_is_replaced(serve: Serve, short_film: Path) -> None:
    served = serve()
    (worker,) = served.workers()
    worker.kill()
    worker.wait(10)
    job = served.start_job(("a.mp4", short_film.read_bytes()))
    assert served.wait(job, "done", "failed")["state"] == "done"


def test_a_job_that_takes_too_long_is_ended(serve: Serve, long_film: Path) -> None:
    served = serve(max_job_minutes=0.005)
    view = served.wait(served.start_job(("l.mp4", long_film.read_bytes())), "done", "failed")
    assert view["state"] == "failed" and "took longer than 0.005 minutes" in view["message"]
    assert "--max-job-minutes" in view["message"] and not served.workers()


def eats_memory(table: Path, *, out: Path, **_: Any) -> None:
    held = np.ones(700_000_000, np.uint8)
    out.write_text(str(held.sum()))


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_a_job_may_take_only_so_much_memory(serve: Serve, short_film: Path) -> None:
    served = serve(make_report=eats_memory, max_memory_mb=600)
    view = served.wait(served.start_job(("a.mp4", short_film.read_bytes())), "done", "failed")
    assert view["state"] == "failed" and "not enough memory" in view["message"]
    served = serve(make_report=eats_memory)
    view = served.wait(served.start_job(("a.mp4", short_film.read_bytes())), "done", "failed")
    assert view["state"] == "done"


def test_the_work_ends_with_its_server(tmp_path: Path) -> None:
    """A server that is killed leaves no process behind."""
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "femae", "app"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout is not None and process.stdout.readline()
        children: list[psutil.Process] = []
        while not children:
            children = psutil.Process(process.pid).children(recursive=True)
            time.sleep(0.05)
        process.kill()
    gone, alive = psutil.wait_procs(children, timeout=30)
    assert gone and not alive


def test_a_report_that_fails_leaves_the_rest(serve: Serve, short_film: Path) -> None:
    served = serve(make_report=no_report)
    view = served.wait(served.start_job(("a.mp4", short_film.read_bytes())), "done", "failed")
    assert view["state"] == "done" and "report.html" not in [file["key"] for file in view["files"]]
    assert "not to my taste" in view["problems"][0] and "femae-app" not in view["problems"][0]


def test_foreign_names_and_foreign_pages_are_refused(serve: Serve) -> None:
    served = serve()
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "[::1", "192.168.0.7"):
        answer = served.client.get("/", headers={"Host": host})
        assert answer.status_code == 403 and "name" in answer.text, host
    port = httpx.URL(served.url).port
    assert served.client.get("/", headers={"Host": f"localhost:{port}"}).status_code == 200
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1", "http://localhost", ""):
        answer = served.client.post("api/jobs", json={}, headers={"Origin": origin})
        assert answer.status_code == 403, origin
    del served.client.headers["Origin"]
    assert served.post("api/jobs", json={}).status_code == 403
    assert served.client.delete("api/jobs/x").status_code == 403


def test_every_answer_is_fenced_in(serve: Serve) -> None:
    served = serve()
    for path in ("/", "static/app.js", "api/choices", "nothing/here", "static/../server.py", "static/%2e%2e/server.py"):
        answer = served.client.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.status_code == (200 if path in ("/", "static/app.js", "api/choices") else 404), path


def test_other_computers_need_the_secret(serve: Serve) -> None:
    served = serve(token="s3cret-token")
    origin = served.url.removesuffix("/s3cret-token/")
    assert served.client.get("").status_code == 200
    assert served.client.get("static/app.js").status_code == 200
    assert served.post("api/jobs", json={}).status_code == 201
    for path in ("/", "/wrong/", "/s3cret-toke/", "/static/app.js", "/api/choices", "/S3CRET-TOKEN/"):
        assert httpx.get(origin + path, trust_env=False).status_code == 403, path
    assert httpx.get(served.url, headers={"Host": "192.168.7.9:80"}, trust_env=False).status_code == 200
    assert httpx.get(served.url, headers={"Host": "evil.example"}, trust_env=False).status_code == 403


def test_expired_jobs_go(serve: Serve, short_film: Path) -> None:
    served = serve(keep_minutes=0.005)
    job = served.start_job(("a.mp4", short_film.read_bytes()))
    for _ in range(600):
        if served.client.get(f"api/jobs/{job['id']}").status_code == 404:
            break
        time.sleep(0.05)
    assert served.client.get(f"api/jobs/{job['id']}").status_code == 404
    assert list((served.folder / "jobs").iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_stops_clean_in_the_midst_of_a_job(number: int, tmp_path: Path, long_film: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    environment = os.environ | {"TMPDIR": str(folder), "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "femae", "app", "--threads", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        assert url.startswith("http://127.0.0.1:")
        with httpx.Client(base_url=url, headers={"Origin": url.rstrip("/")}, trust_env=False) as client:
            job = client.post("api/jobs", json={}).json()["id"]
            client.post(f"api/jobs/{job}/files", content=long_film.read_bytes(), headers={"X-File-Name": "a.mp4"})
            client.post(f"api/jobs/{job}/start")
            while not client.get(f"api/jobs/{job}").json()["done"]:
                time.sleep(0.05)
        assert list(folder.glob("femae-app-*/jobs/*/out/*.part"))
        process.send_signal(number)
        assert process.wait(timeout=60) == 0
    assert list(folder.glob("femae-app-*")) == []


def test_what_a_killed_server_left_behind_is_removed() -> None:
    left, alive = WorkFolder(), WorkFolder()
    assert left._lock is not None
    left._lock.close()  # as the system does when a process dies
    new = WorkFolder()
    assert (left.path.exists(), alive.path.exists(), new.path.exists()) == (os.name == "nt", True, True)
    for folder in (left, alive, new):
        folder.remove()


def test_the_command_says_what_is_wrong(serve: Serve, tmp_path: Path) -> None:
    port = httpx.URL(serve().url).port
    with pytest.raises(ConfigError, match=f"port {port} is in use"):
        run_app(AppConfig(port=port))
    with pytest.raises(ModelError, match="no model file"):
        run_app(AppConfig(models=(tmp_path / "no.onnx",)))
