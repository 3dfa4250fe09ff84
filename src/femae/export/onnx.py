"""A trained model to one ONNX file that carries its own preprocessing and label order.

python -m femae.export.onnx runs/emotion/model.safetensors --out model.onnx --name femae-small
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import onnx
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn

from femae.config.model import ModelConfig
from femae.engine.onnx import OnnxEngine
from femae.engine.spec import ModelSpec
from femae.errors import ModelError
from femae.labels import EMOTIONS
from femae.models.vit import EmotionModel

__all__ = ["EmotionProbs", "export_onnx", "load_weights", "parity"]


class EmotionProbs(nn.Module):
    """An EmotionModel that gives the sigmoid probabilities of the six emotions alone."""

    def __init__(self, model: EmotionModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.model(pixels)[:, : len(EMOTIONS)])


def load_weights(path: Path) -> tuple[EmotionModel, ModelConfig]:
    """Rebuild a model from a .safetensors file of the emotion stage. Raises ModelError when it is of another kind."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"{path} cannot be read as safetensors; give a model.safetensors of the emotion stage"
        ) from error
    if "config" not in metadata:
        raise ModelError(f"{path} has no entry 'config' in its metadata; give a model.safetensors of the emotion stage")
    config = ModelConfig(**json.loads(metadata["config"]))
    model = EmotionModel(config, num_outputs=int(metadata["num_outputs"]))
    model.load_state_dict(load_file(path))
    return model.eval(), config


def export_onnx(weights: Path, out: Path, *, spec: ModelSpec) -> None:
    """Write `out` (one file, batch size free, metadata inside) from a .safetensors of the emotion stage."""
    model, config = load_weights(weights)
    assert (config.image_size, config.in_chans) == (spec.image_size, spec.num_channels)
    example = torch.zeros(2, config.in_chans, config.image_size, config.image_size)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        draft = Path(folder) / "model.onnx"
        batch = {"pixels": {0: torch.export.Dim("batch")}}
        program = torch.onnx.export(
            EmotionProbs(model).eval(),
            (example,),
            input_names=["pixels"],
            output_names=["probs"],
            dynamic_shapes=batch,
            dynamo=True,
        )
        assert program is not None
        program.save(str(draft), external_data=False)
        proto = onnx.load(str(draft))
        for key, value in spec.to_metadata().items():
            proto.metadata_props.add(key=key, value=value)
        onnx.checker.check_model(proto, full_check=True)
        onnx.save(proto, str(draft))
        draft.replace(out)


@torch.inference_mode()
def parity(weights: Path, onnx_path: Path, crops: np.ndarray) -> float:
    """Largest difference of any probability between torch and ONNX Runtime on u8[N, S, S, 3] RGB crops."""
    from femae.engine.spec import preprocess

    model, _ = load_weights(weights)
    engine = OnnxEngine(onnx_path)
    expected = EmotionProbs(model)(torch.from_numpy(preprocess(crops, spec=engine.spec))).numpy()
    return float(np.abs(engine.run(crops)[0] - expected).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--name", default="femae")
    parser.add_argument("--version", default="")
    parser.add_argument("--description", default="")
    parser.add_argument("--terms", default="")
    arguments = parser.parse_args()
    from femae.training.emotion import MEAN, STD

    _, config = load_weights(arguments.weights)
    color = "gray" if config.in_chans == 1 else "rgb"
    spec = ModelSpec(
        name=arguments.name,
        version=arguments.version,
        image_size=config.image_size,
        color=color,  # type: ignore[arg-type]
        mean=(MEAN,) * config.in_chans,
        std=(STD,) * config.in_chans,
        emotions=EMOTIONS,
        description=arguments.description,
        terms=arguments.terms,
    )
    export_onnx(arguments.weights, arguments.out, spec=spec)


if __name__ == "__main__":
    main()
