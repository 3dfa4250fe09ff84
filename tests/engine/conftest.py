"""Small networks with random weights, exported once in every format and precision."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from femae.engine.spec import ModelSpec
from femae.labels import EMOTIONS

torch = pytest.importorskip("torch", reason="needs femae[train]")

from femae.config.model import ModelConfig
from femae.engine.torch import spec_of
from femae.export.graph import to_onnx, write_onnx, write_openvino
from femae.export.int8 import quantise
from femae.models.face import Ensemble, FaceModel
from femae.models.weights import FaceProbs, WeightsInfo, save_weights

AUS = ("AU01", "AU12", "AU25")


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """One network in a folder: model.safetensors, and model[.int8] as .onnx and as .xml with .bin."""

    folder: Path
    spec: ModelSpec
    crops: npt.NDArray[np.uint8]  # u8[N, S, S, 3]


def _network(kind: str, seed: int) -> FaceModel:
    torch.manual_seed(seed)
    if kind == "rgb":
        config = ModelConfig(
            image_size=32,
            patch_size=8,
            in_chans=3,
            mean=(0.5, 0.41, 0.37),
            std=(0.3, 0.27, 0.27),
            embed_dim=32,
            depth=1,
            num_heads=2,
            stem="patch",
            class_token=True,
        )
        model = FaceModel(config, outputs=EMOTIONS, au_names=AUS)
    else:
        config = ModelConfig(embed_dim=32, depth=1, num_heads=2, stem_width=8)
        model = FaceModel(config, outputs=(*EMOTIONS, "neutral", "none"))
    for head in (model.head, model.au_head):
        if head is not None:
            torch.nn.init.normal_(head.weight, std=0.15)
    return model


def _build(kind: str) -> tuple[FaceModel | Ensemble, WeightsInfo]:
    model = Ensemble([_network(kind, seed) for seed in range(2)]) if kind == "ensemble" else _network(kind, 0)
    info = WeightsInfo.of(model.eval(), name=f"tiny-{kind}", description='nothing & <nobody>, "é"')
    if kind == "rgb":  # calibrated
        calibration = {"scale": (1.5, 0.5, 1.0, 2.0, 1.0, 0.8), "offset": (0.1, -0.4, 0.0, 0.3, 0.0, 1.0)}
        info = info.model_copy(update=calibration | {"thresholds": (0.5, 0.3, 0.2, 0.6, 0.5, 0.4), "terms": "none"})
    return model, info


def _faces(astronaut: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    """Overlapping square crops of a photograph."""
    places = np.random.default_rng(0).integers(0, 512 - size, (96, 2))
    return np.stack([astronaut[y : y + size, x : x + size] for y, x in places])


@pytest.fixture(scope="session", params=["gray", "rgb", "ensemble"])
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, astronaut: npt.NDArray[np.uint8]
) -> Exported:
    folder = tmp_path_factory.mktemp(request.param)
    model, info = _build(request.param)
    save_weights(folder / "model.safetensors", model.state_dict(), info=info)
    spec = spec_of(info)
    crops = _faces(astronaut, spec.image_size)
    graph = to_onnx(FaceProbs(model, info=info), spec=spec)
    from femae.engine.spec import preprocess

    small, _, _ = quantise(graph, pixels=preprocess(crops[16:], spec=spec))
    for proto, name, precision in ((graph, "model", "fp32"), (small, "model.int8", "int8")):
        said = spec.model_copy(update={"precision": precision})
        write_onnx(proto, folder / f"{name}.onnx", spec=said)
        write_openvino(proto, folder / f"{name}.xml", spec=said)
    return Exported(folder=folder, spec=spec, crops=crops[:16])
