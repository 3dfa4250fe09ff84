"""A run in other programs: MLflow's server and TensorBoard's reader have the content of log.jsonl."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("torch", reason="needs femae[train]")
pytest.importorskip("lightning_fabric", reason="needs femae[train]")

from femae.config.train import EmotionConfig
from femae.training.loop.run_folder import RunFolder
from femae.training.recipes.stage import train_stage

START_S = 600  # a new database takes ten seconds, on a busy machine much longer


pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a tracking server with an empty database."""
    for name in ("mlflow", "sqlalchemy", "alembic"):
        pytest.importorskip(name, reason="MLflow's server needs mlflow-skinny, sqlalchemy and alembic")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{tmp_path / 'runs.db'}"]
    command += ["--artifacts-destination", str(tmp_path / "artifacts")]
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
    address, end = f"http://127.0.0.1:{port}", time.monotonic() + START_S
    try:
        while True:
            said = (tmp_path / "server.log").read_text("utf-8", "replace")[-3000:]
            assert process.poll() is None and time.monotonic() < end, said
            try:
                if httpx.get(f"{address}/health", timeout=10).is_success:
                    break
            except httpx.TransportError:
                time.sleep(0.3)
        yield address
    finally:
        process.terminate()
        process.wait(60)


def test_server_and_reader_hold_what_the_log_says(
    server: str, faces: Path, tiny: dict[str, Any], tmp_path: Path
) -> None:
    import mlflow
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = EmotionConfig(
        data={"folders": [str(faces)]},
        model=tiny,
        run={"epochs": 2, "batch_size": 24, "precision": "32-true", "threads": 1, "log_every": 1, "mlflow": server},
    )
    train_stage(config, run=tmp_path / "run", quiet=True)
    log = RunFolder(tmp_path / "run")
    losses = {entry["step"]: entry["loss"] for entry in log.entries("step")}
    scores = {entry["step"]: entry["val"]["macro_f1"] for entry in log.entries("epoch")}
    assert len(losses) > 3 and len(scores) == 2

    client = mlflow.MlflowClient(tracking_uri=server)
    (run,) = client.search_runs([one.experiment_id for one in client.search_experiments()])
    assert run.info.status == "FINISHED"
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    for name, wanted in (("step/loss", losses), ("epoch/val/macro_f1", scores)):
        sent = {metric.step: metric.value for metric in client.get_metric_history(run.info.run_id, name)}
        assert sent == pytest.approx(wanted, rel=1e-6)
        drawn = {event.step: event.value for event in events.Scalars(name)}
        assert drawn == pytest.approx(wanted, rel=1e-6)
