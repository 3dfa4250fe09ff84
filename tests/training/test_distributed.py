"""Two real processes under torchrun give the losses of one with the same batch; the result is one run folder."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

torch = pytest.importorskip("torch", reason="needs femae[train]")
pytest.importorskip("lightning_fabric", reason="needs femae[train]")

psutil = pytest.importorskip("psutil", reason="needs femae[dev]")

from safetensors.torch import load_file

from femae.training.loop.checkpoint import LAST
from femae.training.loop.run_folder import RunFolder
from femae.training.loop.sharded_state import newest_state, read_sharded_state

COMMAND = "import sys; from femae.cli import main; sys.exit(main(sys.argv[1:]))"


def start(recipe: Path, out: Path, *, processes: int, extra: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    script = out.parent / "femae_main.py"
    script.write_text(COMMAND)
    train = [str(script), "train", str(recipe), "--out", str(out), "--quiet", *extra]
    launch = [sys.executable]
    if processes > 1:
        launch += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(launch + train, capture_output=True, text=True, timeout=240, env=environment, check=False)


@pytest.fixture(scope="module")
def recipe(faces: Path, tiny: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = {
        "stage": "emotion",
        "data": {"folders": [str(faces)]},
        "model": tiny | {"drop_path": 0.2},
        "optim": {"lr": 3e-3, "warmup_epochs": 0.5},
        "mixup": {"alpha": 0.5},
        "softmax_weight": 1.0,
        "run": {
            "epochs": 3,
            "batch_size": 24,
            "precision": "32-true",
            "tensorboard": False,
            "log_every": 1,
            "ema_decay": 0.9,
            "accelerator": "cpu",
        },
    }
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture(scope="module")
def one(recipe: Path) -> Path:
    """The run of one process."""
    run = recipe.parent / "one"
    done = start(recipe, run, processes=1)
    assert done.returncode == 0, done.stderr
    return run


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_train_as_one_does(recipe: Path, one: Path, tmp_path: Path, strategy: str) -> None:
    two = tmp_path / "two"
    done = start(recipe, two, processes=2, extra=("--run.strategy", strategy))
    assert done.returncode == 0, done.stderr[-3000:]
    curves = [[entry["loss"] for entry in RunFolder(run).entries("step")] for run in (one, two)]
    assert len(curves[0]) == 12 and curves[1] == pytest.approx(curves[0], rel=1e-3)
    weights = [load_file(run / "model.safetensors") for run in (one, two)]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        assert torch.allclose(value, weights[1][name], atol=2e-3), name
    scores = [pq.read_table(run / "scores.parquet") for run in (one, two)]
    assert scores[0].column("key").to_pylist() == scores[1].column("key").to_pylist()  # each validation row once
    values = [np.asarray(table.column("fear").to_numpy()) for table in scores]
    assert values[1] == pytest.approx(values[0], abs=5e-3)
    assert len(RunFolder(two).entries("epoch")) == 3


def test_two_processes_pretrain_as_one_does(recipe: Path, tmp_path: Path) -> None:
    settings = yaml.safe_load(recipe.read_text())
    for name in ("mixup", "softmax_weight"):
        settings.pop(name)
    pretrain = tmp_path / "pretrain.yaml"
    pretrain.write_text(yaml.safe_dump(settings | {"stage": "pretrain"}))
    curves = []
    for processes in (1, 2):
        done = start(pretrain, tmp_path / str(processes), processes=processes)
        assert done.returncode == 0, done.stderr[-3000:]
        curves.append([entry["loss"] for entry in RunFolder(tmp_path / str(processes)).entries("step")])
    assert curves[1] == pytest.approx(curves[0], rel=1e-3)


def test_fsdp_alone_is_refused(recipe: Path, tmp_path: Path) -> None:
    done = start(recipe, tmp_path / "run", processes=1, extra=("--run.strategy", "fsdp"))
    assert done.returncode == 2 and "start it by torchrun" in done.stderr


def test_a_state_of_two_sharded_processes_is_taken_up_by_one_and_by_three(recipe: Path, tmp_path: Path) -> None:
    """Killed on two processes, gone on with on one and on three: the curve of one that was not stopped."""
    whole, run = tmp_path / "whole", tmp_path / "run"
    longer = ("--run.epochs", "10")
    assert start(recipe, whole, processes=1, extra=longer).returncode == 0
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [str(tmp_path / "femae_main.py"), "train", str(recipe), "--out", str(run), "--quiet"]
    command += ["--run.strategy", "fsdp", "--run.checkpoint_steps", "2", *longer]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            if len(RunFolder(run, writes=False).entries("step")) >= 5:
                break
            time.sleep(0.05)
    finally:
        own = psutil.Process(process.pid)
        for each in [own, *own.children(recursive=True)]:  # torchrun and both processes
            each.kill()
        process.wait()
    newest = newest_state(run / "checkpoint-last")
    assert newest is not None and not (run / LAST).exists()  # in parts, one per process
    assert sorted(path.suffix for path in newest.glob("*.distcp")) == [".distcp", ".distcp"]
    state = read_sharded_state(newest)
    assert 2 <= state.step < 40 and not state.finished
    (run / "checkpoint-last/step-99999999").mkdir()  # as one that was cut off: it does not count
    damaged, three = tmp_path / "damaged", tmp_path / "three"
    shutil.copytree(run, damaged)
    shutil.copytree(run, three)
    for part in (damaged / "checkpoint-last").glob("step-*/__1_0.distcp"):
        part.unlink()
    done = start(recipe, damaged, processes=1, extra=longer)
    assert done.returncode == 2 and "checkpoint-last" in done.stderr and "is damaged" in done.stderr
    assert start(recipe, run, processes=1, extra=longer).returncode == 0
    done = start(recipe, three, processes=3, extra=("--run.strategy", "fsdp", *longer))
    assert done.returncode == 0, done.stderr[-3000:]
    folders = (whole, run, three)
    curves = [{entry["step"]: entry["loss"] for entry in RunFolder(folder).entries("step")} for folder in folders]
    for curve in curves[1:]:
        assert list(curve) == list(range(1, 41))
        assert list(curve.values()) == pytest.approx(list(curves[0].values()), rel=1e-2)
