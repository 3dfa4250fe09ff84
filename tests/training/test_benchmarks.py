"""The benchmarks of training run: what the host costs, and the accelerator's, which says when there is none."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

torch = pytest.importorskip("torch", reason="needs femae[train]")
pytest.importorskip("lightning_fabric", reason="needs femae[train]")

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_host_keeps_far_ahead_of_a_device_that_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Far below what is measured in benchmarks/results/host.md: other work may run beside the tests."""
    host = load("host")
    monkeypatch.setitem(host.SIZES, "48 gray", (48, 1, 8_192, 60_000))
    found = host.measure("48 gray", 0.2)
    assert found["lines"] >= 2 and found["best"] > 10_000


def test_without_an_accelerator_it_is_one_sentence() -> None:
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    if torch.backends.mps.is_available():
        pytest.skip("there is one")
    command = [sys.executable, str(BENCHMARKS / "gpu.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2 and done.stderr == ""
    assert done.stdout.strip().endswith("needs an accelerator, and torch finds neither CUDA nor mps on this machine.")


def test_the_table_of_an_accelerator_on_a_tiny_network(tmp_path: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        str(BENCHMARKS / "gpu.py"),
        "--tiny",
        "--minutes",
        "0.1",
        "--out",
        str(tmp_path / "a.md"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    table = [line for line in (tmp_path / "a.md").read_text().splitlines() if line.startswith("| tiny")]
    assert table and all(len(line.split("|")) == 10 for line in table)
