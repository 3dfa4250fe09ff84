"""A trained model and its ONNX file give the same probabilities, and the file carries its own preprocessing."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs femae[train]")

from safetensors.torch import save_file

from femae.config.model import ModelConfig
from femae.engine.onnx import OnnxEngine
from femae.engine.spec import ModelSpec
from femae.errors import ModelError
from femae.export.onnx import balance_offsets, export_onnx, load_weights, parity
from femae.labels import EMOTIONS
from femae.models.vit import EmotionModel


@pytest.fixture(scope="module", params=["gray", "rgb"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, ModelSpec]:
    folder = tmp_path_factory.mktemp("export")
    channels = 1 if request.param == "gray" else 3
    config = ModelConfig(embed_dim=32, depth=2, num_heads=2, stem_width=8, in_chans=channels)
    torch.manual_seed(0)
    model = EmotionModel(config, num_outputs=8)
    torch.nn.init.normal_(model.head.weight, std=0.5)
    weights, out = folder / "model.safetensors", folder / "model.onnx"
    save_file(model.state_dict(), weights, metadata={"config": config.model_dump_json(), "num_outputs": "8"})
    spec = ModelSpec(
        name="tiny",
        version="1",
        image_size=48,
        color=request.param,
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
        emotions=EMOTIONS,
        terms="none",
    )
    export_onnx(weights, out, spec=spec)
    return weights, out, spec


def test_torch_and_onnx_agree_on_any_batch_size(exported: tuple[Path, Path, ModelSpec], astronaut: np.ndarray) -> None:
    weights, out, _ = exported
    face = astronaut[60:156, 176:272]
    crops = np.stack([face[::2, ::2], face[1::2, ::2], face[:48, :48], np.zeros((48, 48, 3), np.uint8), face[48:, 48:]])
    assert parity(weights, out, crops) < 1e-5
    engine = OnnxEngine(out)
    alone = np.concatenate([engine.run(crops[i : i + 1])[0] for i in range(len(crops))])
    np.testing.assert_allclose(engine.run(crops)[0], alone, atol=1e-5)
    assert np.ptp(alone, axis=0).max() > 0.01  # the pictures do differ


def test_the_file_carries_its_specification(exported: tuple[Path, Path, ModelSpec]) -> None:
    _, out, spec = exported
    engine = OnnxEngine(out)
    assert engine.spec == spec
    probs, au_probs = engine.run(np.zeros((0, 48, 48, 3), np.uint8))
    assert probs.shape == (0, 6) and au_probs.shape == (0, 0)


def test_the_file_holds_no_path_of_the_machine_that_made_it(exported: tuple[Path, Path, ModelSpec]) -> None:
    shipped = Path(__file__).resolve().parents[2] / "src" / "femae" / "weights" / "model.onnx"
    for path in (exported[1], shipped):
        content = path.read_bytes()
        assert b"stack_trace" not in content and b"site-packages" not in content
        assert str(Path.cwd()).encode() not in content


def test_weights_of_another_kind_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_file({"x": torch.zeros(2)}, other)
    with pytest.raises(ModelError, match="has no entry 'config'"):
        load_weights(other)
    other.write_text("not safetensors")
    with pytest.raises(ModelError, match="cannot be read as safetensors"):
        load_weights(other)


def test_balance_lifts_rare_emotions_and_keeps_the_mean() -> None:
    counts = [400.0, 100.0, 50.0, 800.0, 400.0, 200.0, 999.0, 1.0]
    offsets = balance_offsets(counts, balance=0.5).double().numpy()
    raw = 0.5 * np.log(800 / np.array(counts[:6]))
    np.testing.assert_allclose(offsets - offsets[3], raw, atol=1e-6)
    assert abs((offsets * counts[:6]).sum()) < 1e-3
    assert not balance_offsets(counts, balance=0.0).any()
