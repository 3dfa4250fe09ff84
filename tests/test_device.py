"""`--device`: what is installed runs, what is not is an error that names its package, and nothing falls back unsaid."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from femae import ort
from femae.cli import main
from femae.config.options import DEVICES
from femae.engine.load import load_engine
from femae.errors import ConfigError, MissingDependencyError
from femae.inference.predictor import Predictor, shipped_model

PACKAGES = {"cuda": "onnxruntime-gpu", "directml": "onnxruntime-directml", "openvino": "onnxruntime-openvino"}
ABSENT = [name for name in PACKAGES if name not in ort.installed_devices()]


@pytest.fixture
def picture(tmp_path: Path, astronaut: np.ndarray) -> Path:
    path = tmp_path / "face.png"
    Image.fromarray(astronaut[:300, 60:400]).save(path)
    return path


def test_what_ran_is_in_the_summary_the_table_and_the_record(
    picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["predict", str(picture), "--out", str(out), "--format", "parquet"]) == 0
    used = Predictor().device
    assert used in DEVICES and used != "auto"
    assert f"pictures/s on {used}" in capsys.readouterr().out
    metadata: dict[bytes, bytes] = pq.read_schema(out / "pictures.parquet").metadata
    assert metadata[b"device"].decode() == used
    assert json.loads((out / "run.json").read_text("utf-8"))["settings"]["device"] == "auto"


@pytest.mark.parametrize("device", ABSENT)
def test_a_device_that_is_not_installed(
    device: str, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(picture), "--out", str(tmp_path / "out"), "--device", device]) == 2
    said = capsys.readouterr().err
    assert f"--device {device} needs the package {PACKAGES[device]}" in said and "installed is what runs cpu" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(sys.platform == "darwin", reason="CoreML is there")
def test_coreml_elsewhere() -> None:
    with pytest.raises(MissingDependencyError, match="which runs only on macOS"):
        Predictor(device="coreml")


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_device_that_is_installed_but_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with a provider for which there is no device, or no driver: asked for an error, else the next best."""
    real = ort.onnxruntime.get_available_providers()
    if "CUDAExecutionProvider" in real:
        pytest.skip("there is one")
    monkeypatch.setattr(ort.onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", *real])
    assert ort.installed_devices()[0] == "cuda"
    with pytest.raises(ConfigError, match=r"--device cuda cannot be used on this machine: .*--device auto"):
        Predictor(device="cuda")
    assert Predictor(device="auto").device == "cpu"


def test_a_session_that_goes_on_without_its_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime gives a session on the CPU where a provider fails to start; only its list of providers tells."""

    class Quiet:
        def __init__(self, *_: Any, **__: Any) -> None:
            pass

        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    monkeypatch.setattr(ort.onnxruntime, "get_available_providers", lambda: ["DmlExecutionProvider"])
    monkeypatch.setattr(ort.onnxruntime, "InferenceSession", Quiet)
    with pytest.raises(ConfigError, match="does not start"):
        ort.open_session(b"", options=ort.session_options(num_threads=1), device="directml")


def test_words_that_are_no_device_and_engines_of_their_own() -> None:
    with pytest.raises(ConfigError, match="'tpu' is not a device; expected auto, cpu"):
        Predictor(device="tpu")  # type: ignore[arg-type]
    with shipped_model() as path:
        pytest.importorskip("openvino", reason="needs femae[openvino]")
        assert load_engine(path, engine="openvino", device="auto").device == "cpu"
        with pytest.raises(ConfigError, match="--engine openvino runs on the CPU"):
            load_engine(path, engine="openvino", device="cuda")
    torch = pytest.importorskip("torch", reason="needs femae[train]")
    with shipped_model(engine="torch") as path:
        with pytest.raises(ConfigError, match="runs on cpu or cuda, not on coreml"):
            load_engine(path, device="coreml")
        if not torch.cuda.is_available():
            assert load_engine(path, device="auto").device == "cpu"
            with pytest.raises(ConfigError, match="torch finds no CUDA device"):
                load_engine(path, device="cuda")


@pytest.mark.gpu
def test_the_labels_of_a_gpu_are_those_of_the_cpu(carphone: Path) -> None:
    if "cuda" not in ort.installed_devices():
        pytest.skip("needs onnxruntime-gpu")
    tables = [Predictor(device=device).predict(carphone).table for device in ("cpu", "cuda")]
    for column in ("frame", "face_id", "status"):
        assert tables[0][column].equals(tables[1][column])
    for column in ("expression", "compound"):
        same = np.mean([a == b for a, b in zip(*(table[column].to_pylist() for table in tables), strict=True)])
        assert same >= 0.995, column
    for column in ("happiness", "surprise", "sadness"):
        assert np.abs(tables[0][column].to_numpy() - tables[1][column].to_numpy()).max() < 5e-3, column


@pytest.mark.timeout(600)
def test_another_package_of_onnx_runtime_runs_and_gives_the_same_labels(carphone: Path, tmp_path: Path) -> None:
    """OpenVINO's, the one whose device is any Intel or AMD processor; laid over the installed one for these runs."""
    if sys.platform != "linux" or platform.machine() != "x86_64" or sys.version_info >= (3, 14):
        pytest.skip("onnxruntime-openvino has wheels for Linux and Windows on x86-64 up to Python 3.13")
    package = tmp_path / "package"
    install = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-compile",
        "--no-deps",
        "--target",
        str(package),
        "onnxruntime-openvino",
    ]
    subprocess.run([sys.executable, *install, "onnxruntime-openvino"], check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(package)}
    tables = {}
    for device, used in (("auto", "openvino"), ("openvino", "openvino"), ("cpu", "cpu")):
        out = tmp_path / device
        command = ["predict", str(carphone), "--out", str(out), "--format", "parquet", "--device", device]
        done = subprocess.run(
            [sys.executable, "-m", "femae", *command], capture_output=True, text=True, check=False, env=environment
        )
        assert done.returncode == 0 and f"frames/s on {used}" in done.stdout, done.stderr
        tables[device] = pq.read_table(next(out.glob("*.parquet")))
        assert (tables[device].schema.metadata or {})[b"device"].decode() == used
    assert tables["auto"].equals(tables["openvino"])
    for column in ("frame", "face_id", "status"):
        assert tables["cpu"][column].equals(tables["openvino"][column]), column
    for column in ("expression", "compound"):
        pairs = zip(tables["cpu"][column].to_pylist(), tables["openvino"][column].to_pylist(), strict=True)
        assert np.mean([one == other for one, other in pairs]) >= 0.995, column
    for column in ("happiness", "surprise", "sadness"):
        apart = np.abs(tables["cpu"][column].to_numpy() - tables["openvino"][column].to_numpy())
        assert apart.max() < 5e-3, column
