"""Annotation through Label Studio's server: import of a project, answers of three people, exports back into shards.

Label Studio is large (about 1 GB, minutes to install) and not in any extra: FEMAE_LABEL_STUDIO names a Python that has
it (`python -m venv ls; ls/bin/pip install label-studio; FEMAE_LABEL_STUDIO=ls/bin/python scripts/test ...`).
"""

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from femae.data.annotate.label_studio import CONTROL, Ballots, FaceDraw, export_label_studio, read_label_studio
from femae.data.annotate.voted_shards import import_label_studio
from femae.data.prepare.run import PrepareSettings, Workers, prepare
from femae.data.samples import InlinePicture, RawSample, Reading
from femae.data.store.manifest import read_manifest
from femae.data.store.shard_reader import ShardReader
from femae.labels import EMOTIONS

START_S = 600  # the first start makes a database, which takes most of a minute and on a busy machine much longer
pytestmark = pytest.mark.timeout(2 * START_S)
PASSWORD = "correct-horse-9"


class Faces:
    reading = Reading(source="set")

    def __iter__(self) -> Iterator[RawSample]:
        for number in range(4):
            pixels = np.random.default_rng(number).integers(0, 256, 16 * 16, np.uint8).tobytes()
            picture = InlinePicture(pixels=pixels, height=16, width=16)
            yield RawSample(key=f"é {number}", picture=picture, group=f"g{number}", is_crop=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that Label Studio may serve, with the shards."""
    folder = tmp_path_factory.mktemp("annotation")
    prepare([Faces()], out=folder / "shards", settings=PrepareSettings(), workers=Workers(num=1), quiet=True)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[str]:
    """The address of a new server with an empty database."""
    python = os.environ.get("FEMAE_LABEL_STUDIO")
    if not python:
        pytest.skip("Label Studio is not at hand: set FEMAE_LABEL_STUDIO to a Python that has label-studio")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder / "server"),
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(folder),
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
    }
    environment.pop("PYTHONPATH", None)  # of these tests
    command = [python, "-c", "from label_studio.server import main; main()", "start", "--no-browser", "--port"]
    command += [str(port), "--username", mail_of("anna"), "--password", PASSWORD]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process, folder / "server.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def wait_for(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text("utf-8", "replace")[-3000:]
        try:
            if httpx.get(address, timeout=30).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.5)
    pytest.fail(f"no answer after {START_S} s: {log.read_text('utf-8', 'replace')[-3000:]}")


def mail_of(name: str) -> str:
    return f"{name}@example.org"


def person(server: str, name: str, *, is_new: bool) -> httpx.Client:
    """A client session of a logged-in user, as in a browser."""
    client = httpx.Client(base_url=server, timeout=120, follow_redirects=True, headers={"Referer": server})
    form = "/user/signup/" if is_new else "/user/login/"
    client.get(form)
    words = {"email": mail_of(name), "password": PASSWORD, "csrfmiddlewaretoken": client.cookies["csrftoken"]}
    client.post(form, data=words).raise_for_status()
    client.headers["X-CSRFToken"] = client.cookies["csrftoken"]
    assert client.get("/api/current-user/whoami").json()["email"] == mail_of(name)
    return client


@pytest.fixture(scope="module")
def people(server: str) -> Iterator[tuple[httpx.Client, ...]]:
    clients = (person(server, "anna", is_new=False), *(person(server, name, is_new=True) for name in ("ben", "cleo")))
    yield clients
    for client in clients:
        client.close()


def answer(client: httpx.Client, path: str, /, **values: Any) -> Any:
    given = client.post(path, json=values) if values else client.get(path)
    assert given.is_success, given.text
    return given.json()


def new_project(client: httpx.Client, project: Path) -> tuple[int, dict[str, dict[str, Any]]]:
    """Follow the project's README.md: paste config.xml, import the task files. Returns the number, and tasks by key."""
    interface = (project / "config.xml").read_text("utf-8")
    number = answer(client, "/api/projects/", title=project.name, label_config=interface)["id"]
    for path in sorted(project.glob("tasks-*.json")):
        sent = client.post(f"/api/projects/{number}/import", json=json.loads(path.read_text("utf-8")))
        assert sent.is_success, sent.text
    tasks = answer(client, f"/api/tasks?project={number}&fields=all")["tasks"]
    return number, {task["data"]["key"]: task for task in tasks}


def says(client: httpx.Client, task: dict[str, Any], *words: str) -> None:
    """Submit choices; without any, skip the task."""
    result = [{"from_name": CONTROL, "to_name": "image", "type": "choices", "value": {"choices": words}}]
    path = f"/api/tasks/{task['id']}/annotations"
    answer(client, path, result=result if words else [], was_cancelled=not words, lead_time=2.5)


def test_answers_come_back_as_shares_of_votes(folder: Path, people: tuple[httpx.Client, ...], tmp_path: Path) -> None:
    anna, ben, cleo = people
    export_label_studio(folder / "shards", out=folder / "embedded")
    number, tasks = new_project(anna, folder / "embedded")
    assert len(tasks) == 4 and all(task["data"]["image"].startswith("data:image/") for task in tasks.values())
    for client, *answers in (
        (anna, ["Happiness"], ["Fear", "Surprise"], ["Others"]),
        (ben, ["Happiness"], ["Fear"], ["Others"]),
        (cleo, ["Happiness", "Surprise"], ["Sadness"], []),
    ):
        for face, words in enumerate(answers):
            says(client, tasks[f"é {face}"], *words)
    says(ben, tasks["é 1"], "Surprise")  # changes his mind: the later answer counts
    ballots: dict[str, Ballots] = {}
    for form in ("JSON", "JSON_MIN"):
        path = tmp_path / f"{form}.json"
        path.write_bytes(anna.get(f"/api/projects/{number}/export?exportType={form}").raise_for_status().content)
        ballots[form] = read_label_studio([path])
    assert ballots["JSON"].ballots == ballots["JSON_MIN"].ballots
    assert sum(ballots["JSON"].num_skipped.values()) == 1

    voted = import_label_studio([tmp_path / "JSON.json"], shards=folder / "shards", out=tmp_path / "voted")
    manifest = read_manifest(tmp_path / "voted")
    assert voted.num_samples == 3 and voted.agreement.num_ballots == 8 and len(voted.agreement.annotators) == 3
    assert manifest.strings("key") == ["é 0", "é 1", "é 2"] and manifest.vectors("mask").all()
    shares = [
        dict(zip(EMOTIONS, row.round(3).tolist(), strict=True)) for row in manifest.vectors("targets").astype(float)
    ]
    nothing = dict.fromkeys(EMOTIONS, 0.0)
    assert shares[0] == nothing | {"happiness": 1.0, "surprise": 0.333}
    assert shares[1] == nothing | {"fear": 0.333, "surprise": 0.667, "sadness": 0.333}
    assert shares[2] == nothing
    assert manifest.strings("class_name") == ["Happiness", "Surprise", "Others"]


def test_the_server_reads_the_interface(folder: Path, people: tuple[httpx.Client, ...], tmp_path: Path) -> None:
    """The server accepts the interface and recognises the control and its seven choices."""
    export_label_studio(folder / "shards", out=tmp_path / "project", faces=FaceDraw(limit=1))
    number, _ = new_project(people[0], tmp_path / "project")
    control = answer(people[0], f"/api/projects/{number}")["parsed_label_config"][CONTROL]
    assert control["type"] == "Choices" and control["to_name"] == ["image"]
    assert control["labels"] == [*(emotion.capitalize() for emotion in EMOTIONS), "Others"]


def test_crops_in_files_are_served_as_stored(folder: Path, people: tuple[httpx.Client, ...]) -> None:
    anna = people[0]
    export_label_studio(folder / "shards", out=folder / "in files", pictures="files")
    number, tasks = new_project(anna, folder / "in files")
    storage = {"path": str(folder / "in files" / "pictures"), "project": number, "use_blob_urls": True}
    answer(anna, "/api/storages/localfiles", **storage)
    manifest = read_manifest(folder / "shards")
    stored = dict(ShardReader(manifest).picture_bytes(np.arange(4)))
    for position, key in enumerate(manifest.strings("key")):
        shown = anna.get(tasks[key]["data"]["image"])
        assert shown.is_success and shown.content == stored[position]
