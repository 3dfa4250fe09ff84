"""Which engine reads which file, and the errors for other files."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from femae.cli import main
from femae.engine.load import engines_for, load_engine
from femae.errors import MissingDependencyError, ModelError
from femae.inference.predictor import Predictor

SHIPPED = Path(__file__).resolve().parents[2] / "src" / "femae" / "weights" / "model.onnx"


@pytest.mark.parametrize(
    ("file", "engines"),
    [("a.onnx", ("onnx", "openvino")), ("a.xml", ("openvino",)), ("a.safetensors", ("torch",)), ("A.ONNX", None)],
)
def test_the_kind_of_file_tells_the_engine(file: str, engines: tuple[str, ...] | None) -> None:
    assert engines_for(Path(file)) == (engines or ("onnx", "openvino"))


def test_a_folder_is_a_run(tmp_path: Path) -> None:
    assert engines_for(tmp_path) == ("torch",)


@pytest.mark.parametrize(
    ("file", "engine", "words"),
    [
        ("no.onnx", None, "there is no model file"),
        ("model.pt", None, r"model\.pt is not a kind of model file that femae can read"),
        ("model.onnx", "torch", r"the engine torch does not read model\.onnx, only \.safetensors"),
        ("model.xml", "onnx", r"the engine onnx does not read model\.xml, only \.onnx"),
        ("model.safetensors", "openvino", r"the engine openvino does not read model\.safetensors, only \.xml or"),
        ("model.onnx", None, "cannot be read as an ONNX model"),
        ("model.onnx", "openvino", "cannot be read as an OpenVINO or ONNX model"),
        ("model.xml", None, "cannot be read as an OpenVINO or ONNX model"),
        ("model.safetensors", None, "cannot be read as safetensors"),
        (".", None, "there are no weights at"),
    ],
)
def test_wrong_files_are_refused_in_words(tmp_path: Path, file: str, engine: str | None, words: str) -> None:
    if file != "no.onnx" and file != ".":
        (tmp_path / file).write_text("hello")
        (tmp_path / "model.bin").write_text("")
    with pytest.raises(ModelError, match=words):
        load_engine(tmp_path / file, engine=engine)  # type: ignore[arg-type]


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_a_network_of_others_is_refused_in_words(tmp_path: Path, engine: str) -> None:
    import onnx
    from onnx import TensorProto, helper

    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 6]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Sigmoid", ["x"], ["y"])], "g", value[:1], value[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="is not a femae model: its metadata has no entry 'femae'"):
        load_engine(tmp_path / "m.onnx", engine=engine)  # type: ignore[arg-type]


@pytest.mark.parametrize(("engine", "extra"), [("openvino", "openvino"), ("torch", "train")])
def test_a_package_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str, extra: str
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr("femae.engine.load.find_spec", lambda name: None if name == engine else found(name))
    file = tmp_path / ("model.safetensors" if engine == "torch" else "model.onnx")
    file.write_text("")
    with pytest.raises(MissingDependencyError, match=rf"pip install 'femae\[{extra}\]'"):
        load_engine(file, engine=engine)  # type: ignore[arg-type]


def test_the_shipped_model_runs_in_openvino() -> None:
    crops = np.random.default_rng(0).integers(0, 256, (4, 48, 48, 3), dtype=np.uint8)
    first, second = (Predictor(faces="whole", engine=name).engine for name in ("onnx", "openvino"))
    assert first.spec == second.spec
    np.testing.assert_allclose(first.run(crops)[0], second.run(crops)[0], atol=1e-4)


def test_the_shipped_weights_say_the_same_in_torch() -> None:
    pytest.importorskip("torch", reason="needs femae[train]")
    crops = np.random.default_rng(0).integers(0, 256, (4, 48, 48, 3), dtype=np.uint8)
    first, second = (Predictor(faces="whole", engine=name).engine for name in ("onnx", "torch"))
    assert first.spec == second.spec
    np.testing.assert_allclose(first.run(crops)[0], second.run(crops)[0], atol=1e-4)


def test_the_shipped_model_in_eight_bits_goes_by_its_name(
    astronaut: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    crops = np.stack([astronaut[y : y + 130, 160:290][::2, ::2][:48, :48] for y in range(40, 90, 10)])
    float32, small = load_engine(Path("femae:model")), load_engine(Path("femae:model.int8"))
    assert (float32.spec.precision, small.spec.precision) == ("fp32", "int8")
    assert float32.spec.name == Predictor(faces="whole").engine.spec.name
    np.testing.assert_allclose(float32.run(crops)[0], small.run(crops)[0], atol=0.1)
    assert main(["models", "femae:model.int8"]) == 0
    assert "model.int8.onnx (3." in capsys.readouterr().out.replace("\n", "")
    with pytest.raises(ModelError, match=r"ships no .onnx or .safetensors file 'big'; it ships femae:encoder-au, "):
        load_engine(Path("femae:big"))


def test_only_the_engine_torch_imports_torch() -> None:
    code = (
        "import sys; from femae.inference.predictor import Predictor; import femae.inference.models\n"
        "Predictor(faces='whole'); print('torch' in sys.modules, 'openvino' in sys.modules)\n"
        "Predictor(faces='whole', engine='openvino'); print('torch' in sys.modules, 'openvino' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "False", "True"]


def hub_cache(folder: Path, files: list[Path]) -> dict[str, str]:
    """A Hub cache as huggingface_hub lays it out, and the environment that makes it the only source."""
    repository, commit = folder / "models--owner--name", "0" * 40
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    for file in files:
        target = repository / "snapshots" / commit / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    return os.environ | {"HF_HUB_CACHE": str(folder), "HF_HUB_OFFLINE": "1"}


def test_models_of_the_hub_load_by_address(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    environment = hub_cache(tmp_path, [SHIPPED])

    def models(address: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "femae", "models", address]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    for address in ("hf://owner/name", "hf://owner/name@main/model.onnx"):
        done = models(address)
        assert done.returncode == 0, done.stderr
        assert "surprise, fear, disgust" in done.stdout and address in done.stdout.replace("\n", "")
    done = models("hf://owner/name/other.onnx")
    assert done.returncode == 2
    assert "hf://owner/name/other.onnx cannot be downloaded" in done.stderr and "Traceback" not in done.stderr


def test_a_hub_address_without_a_name_is_refused() -> None:
    with pytest.raises(ModelError, match=r"expected hf://owner/name\[/file\]"):
        load_engine(Path("hf://owner"))


def test_the_hub_package_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("femae.engine.load.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'femae\[hub\]'"):
        load_engine(Path("hf://owner/name"))
