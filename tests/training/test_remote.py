"""Shards in an object store: a real S3 server (moto's) on loopback, also with intermittent errors."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip("torch", reason="needs femae[train]")
pytest.importorskip("upath", reason="needs femae[remote]")
pytest.importorskip("moto", reason="needs moto[server]")

import boto3

from femae.cli import main
from femae.config.storage import folder_address
from femae.config.train import DataConfig
from femae.data.store.manifest import read_manifest
from femae.data.store.shard_reader import load_pictures
from femae.errors import DataError, MissingDependencyError
from femae.training.loop.run_folder import RunFolder

BUCKET = "faces"


def upload(folder: Path, store: Any) -> str:
    """Upload a folder of shards into a bucket; returns its address."""
    client = boto3.client("s3", endpoint_url=store.url)
    client.create_bucket(Bucket=BUCKET)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            client.upload_file(str(path), BUCKET, f"open/{path.relative_to(folder)}")
    store.requests.clear()
    return f"s3://{BUCKET}/open"


def train(recipe: Path, folder: object, out: Path) -> int:
    return main(["train", str(recipe), "--out", str(out), "--quiet", "--data.folders", str(folder)])


@pytest.fixture
def recipe(tmp_path: Path, tiny: dict[str, object]) -> Path:
    settings = {
        "stage": "emotion",
        "data": {"fold": 0, "loader": "stream"},
        "model": tiny,
        "run": {"epochs": 2, "batch_size": 16, "ema_decay": 0, "log_every": 1},
    }
    path = tmp_path / "emotion.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def losses(run: Path) -> list[float]:
    return [entry["loss"] for entry in RunFolder(run).entries("step")]


def test_training_from_a_bucket_is_training_from_the_disk(
    store: Any, faces: Path, recipe: Path, tmp_path: Path
) -> None:
    address = upload(faces, store)
    assert train(recipe, faces, tmp_path / "local") == 0
    assert not store.requests
    assert train(recipe, address, tmp_path / "remote") == 0
    assert losses(tmp_path / "remote") == losses(tmp_path / "local") != []
    assert (tmp_path / "remote/model.safetensors").read_bytes() == (tmp_path / "local/model.safetensors").read_bytes()
    assert yaml.safe_load((tmp_path / "remote/config.yaml").read_text())["data"]["folders"] == [address]


def test_only_what_is_needed_is_read(store: Any, faces: Path) -> None:
    manifest = read_manifest(folder_address(upload(faces, store)))
    shard = max((faces / "shards").iterdir(), key=lambda path: path.stat().st_size)
    load_pictures(manifest, size=32, positions=np.array([0]))
    store.requests.clear()
    load_pictures(manifest, size=32, positions=np.array([1, 2]))
    assert [method for method, _, _ in store.requests].count("GET") == 1  # the pictures; the footer is known
    first, last = (int(place) for place in store.requests[-1][2].removeprefix("bytes=").split("-"))
    assert last - first < shard.stat().st_size


def test_a_store_that_is_busy_is_asked_again(store: Any, faces: Path, recipe: Path, tmp_path: Path) -> None:
    address = upload(faces, store)
    assert train(recipe, faces, tmp_path / "local") == 0
    busy = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
    store.answer = lambda number, path: ("503 Slow Down", busy) if number % 3 == 0 else None
    assert train(recipe, address, tmp_path / "remote") == 0
    assert losses(tmp_path / "remote") == losses(tmp_path / "local")


def test_what_is_wrong_with_an_address_is_said(
    store: Any, faces: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = upload(faces, store)
    assert train(recipe, f"s3://{BUCKET}/nowhere", tmp_path / "a") == 2
    assert f"s3://{BUCKET}/nowhere is not a folder of shards" in capsys.readouterr().err
    denied = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
    store.answer = lambda number, path: ("403 Forbidden", denied)
    with pytest.raises(DataError, match=r"s3://faces/open cannot be reached: .*[Ff]orbidden"):
        read_manifest(folder_address(address))
    missing = next((faces / "shards").iterdir()).name
    store.answer = lambda number, path: ("404 Not Found", b"") if path.endswith(missing) else None
    assert train(recipe, address, tmp_path / "b") == 2
    said = capsys.readouterr().err
    assert missing in said and "cannot be read" in said


def test_addresses_of_unknown_kinds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Exception, match=r"nonsense"):
        DataConfig(folders=("nonsense://bucket/x",))
    monkeypatch.setitem(__import__("sys").modules, "upath", None)
    with pytest.raises(MissingDependencyError, match=r"femae\[remote\]"):
        DataConfig(folders=("s3://bucket/x",))
    assert DataConfig(folders=("faces",)).folders == (Path("faces"),)
