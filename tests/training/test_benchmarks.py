"""The benchmarks of training run: of the host, and of the accelerator, which reports when there is none."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

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
    """The limit is far below benchmarks/results/host.md, since other work may run beside the tests."""
    host = load("host")
    monkeypatch.setitem(host.SIZES, "48 gray", (48, 1, 8_192, 60_000))
    found = host.measure("48 gray", 0.2)
    assert found["lines"] >= 2 and found["best"] > 10_000


RUN = "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"


def test_without_an_accelerator_it_is_one_sentence(forker: Any, tmp_path: Path) -> None:
    if torch.backends.mps.is_available():
        pytest.skip("there is one")
    process = forker.start(RUN, str(BENCHMARKS / "gpu.py"), log=tmp_path / "said.log")
    status, said = process.wait(), process.log.read_text().splitlines()
    assert status == 2 and len(said) == 1
    assert said[0].endswith("needs an accelerator, and torch finds neither CUDA nor mps on this machine.")


def test_the_table_of_an_accelerator_on_a_tiny_network(forker: Any, tmp_path: Path) -> None:
    words = ["--tiny", "--minutes", "0.02", "--out", str(tmp_path / "a.md")]
    forker.run(RUN, str(BENCHMARKS / "gpu.py"), *words, log=tmp_path / "said.log")
    table = [line for line in (tmp_path / "a.md").read_text().splitlines() if line.startswith("| tiny")]
    assert table and all(len(line.split("|")) == 10 for line in table)
