"""ONNX Runtime is loaded with its reports of use switched off, wherever femae loads it from."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
CODE = """
import os, sys, tempfile
assert "onnxruntime" not in sys.modules
{load}
assert "onnxruntime" in sys.modules
print(os.environ["ORT_DISABLE_TELEMETRY"], sorted(os.listdir(tempfile.gettempdir())))
"""
LOADS = {
    "predictor": "from femae.inference.predictor import Predictor; Predictor()",
    "detector": "from femae.faces.load import load_detector; load_detector(None, num_threads=1)",
    "int8": "import femae.export.int8",
}


@pytest.mark.parametrize("load", list(LOADS))
def test_nothing_is_prepared_to_be_sent(load: str, tmp_path: Path) -> None:
    if load == "int8":
        pytest.importorskip("torch", reason="needs femae[train]")
    environment = {k: v for k, v in os.environ.items() if k not in ("ORT_DISABLE_TELEMETRY", "CI")}
    environment["TMPDIR"] = str(tmp_path)
    code = CODE.format(load=LOADS[load])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["1", "[]"], done.stdout  # no identifier of a session, no cache of events


def test_only_one_file_imports_it_by_itself() -> None:
    found = [
        str(path.relative_to(REPO))
        for path in (REPO / "src").rglob("*.py")
        if any(line.strip().startswith("import onnxruntime") for line in path.read_text("utf-8").splitlines())
    ]
    assert found == ["src/femae/ort.py"]
