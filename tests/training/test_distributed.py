"""Two real processes under torchrun give the losses of one with the same batch; the result is one run folder.

One run is started by the command torchrun, the others by its agent (the same code) in a process with torch loaded,
whose processes are forked and need not load it again.
"""

import os
import shutil
import signal
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

from femae.cli import main
from femae.training.loop.checkpoint import LAST, newest_state, read_sharded_state
from femae.training.loop.run_folder import RunFolder

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def command(recipe: Path, out: Path, *extra: str, processes: int) -> list[str]:
    """`femae train` under torchrun."""
    script = out.parent / "femae_main.py"
    script.write_text("import sys; from femae.cli import main; sys.exit(main(sys.argv[1:]))")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return [*launch, str(script), *words(recipe, out, *extra)]


def words(recipe: Path, out: Path, *extra: str) -> list[str]:
    return ["train", str(recipe), "--out", str(out), "--quiet", *extra]


def train_here(recipe: Path, out: Path, *extra: str) -> None:
    """`femae train` in this process."""
    assert main(words(recipe, out, "--run.threads", "1", *extra)) == 0


_AGENT = """
import sys, uuid
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from femae.cli import main

def work(words):
    assert main(words) == 0

elastic_launch(
    LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=int(sys.argv[1]), run_id=str(uuid.uuid4()), rdzv_backend="c10d",
        rdzv_endpoint="localhost:0", max_restarts=0, start_method="fork",
    ),
    work,
)(sys.argv[2:])
"""


def start_by(forker: Any, processes: int, recipe: Path, out: Path, *extra: str) -> Any:
    """`femae train` in a number of processes of torchrun's agent."""
    return forker.start(_AGENT, str(processes), *words(recipe, out, *extra), log=out.parent / f"{out.name}.log")


def train_by(forker: Any, processes: int, recipe: Path, out: Path, *extra: str) -> None:
    agent = start_by(forker, processes, recipe, out, *extra)
    assert agent.wait() == 0, agent.log.read_text()[-3000:]


def train_by_torchrun(processes: int, recipe: Path, out: Path, *extra: str) -> None:
    done = subprocess.run(
        command(recipe, out, *extra, processes=processes),
        capture_output=True,
        text=True,
        timeout=240,
        env=ENVIRONMENT,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


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
    train_here(recipe, run)
    return run


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_train_as_one_does(recipe: Path, one: Path, forker: Any, tmp_path: Path, strategy: str) -> None:
    two = tmp_path / "two"
    if strategy == "ddp":
        train_by_torchrun(2, recipe, two, "--run.strategy", strategy)
    else:
        train_by(forker, 2, recipe, two, "--run.strategy", strategy)
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


def test_two_processes_pretrain_as_one_does(recipe: Path, forker: Any, tmp_path: Path) -> None:
    settings = yaml.safe_load(recipe.read_text())
    for name in ("mixup", "softmax_weight"):
        settings.pop(name)
    pretrain = tmp_path / "pretrain.yaml"
    pretrain.write_text(yaml.safe_dump(settings | {"stage": "pretrain"}))
    train_here(pretrain, tmp_path / "one")
    train_by(forker, 2, pretrain, tmp_path / "two")
    curves = [[entry["loss"] for entry in RunFolder(tmp_path / name).entries("step")] for name in ("one", "two")]
    assert curves[1] == pytest.approx(curves[0], rel=1e-3)


def test_fsdp_alone_is_refused(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(recipe, tmp_path / "run", "--run.strategy", "fsdp")) == 2
    assert "start it with torchrun" in capsys.readouterr().err


def test_a_state_of_two_sharded_processes_is_taken_up_by_one_and_by_three(
    recipe: Path, forker: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run killed on two processes and resumed on one and on three has the losses of an uninterrupted one."""
    whole, run = tmp_path / "whole", tmp_path / "run"
    longer = ("--run.epochs", "10")
    train_here(recipe, whole, *longer)
    sharded = ("--run.strategy", "fsdp", "--run.checkpoint_steps", "2", *longer)
    agent = start_by(forker, 2, recipe, run, *sharded)
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and agent.is_running():
            if len(RunFolder(run, writes=False).entries("step")) >= 5:
                break
            time.sleep(0.05)
    finally:
        own = psutil.Process(agent.pid)
        for each in [own, *own.children(recursive=True)]:  # the agent and both processes
            each.kill()
        assert agent.wait() == -signal.SIGKILL
    newest = newest_state(run / "checkpoint-last")
    assert newest is not None and not (run / LAST).exists()  # in parts, one per process
    assert sorted(path.suffix for path in newest.glob("*.distcp")) == [".distcp", ".distcp"]
    state = read_sharded_state(newest)
    assert 2 <= state.step < 40 and not state.finished
    (run / "checkpoint-last/step-99999999").mkdir()  # an incomplete state is ignored
    damaged, three = tmp_path / "damaged", tmp_path / "three"
    shutil.copytree(run, damaged)
    shutil.copytree(run, three)
    for part in (damaged / "checkpoint-last").glob("step-*/__1_0.distcp"):
        part.unlink()
    assert main(words(recipe, damaged, *longer)) == 2
    said = capsys.readouterr().err
    assert "checkpoint-last" in said and "is damaged" in said
    train_here(recipe, run, *longer)
    train_by(forker, 3, recipe, three, "--run.strategy", "fsdp", *longer)
    folders = (whole, run, three)
    curves = [{entry["step"]: entry["loss"] for entry in RunFolder(folder).entries("step")} for folder in folders]
    for curve in curves[1:]:
        assert list(curve) == list(range(1, 41))
        assert list(curve.values()) == pytest.approx(list(curves[0].values()), rel=1e-2)
