"""A trained model to one ONNX file that carries its own preprocessing and label order.

python -m femae.export.onnx runs/emotion/model.safetensors --out model.onnx --name femae-small
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

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

__all__ = ["EmotionProbs", "balance_offsets", "export_onnx", "load_weights", "parity"]


class EmotionProbs(nn.Module):
    """An EmotionModel that gives the sigmoid probabilities of the six emotions alone."""

    def __init__(self, model: EmotionModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.model(pixels)[:, : len(EMOTIONS)])


def balance_offsets(class_shares: Sequence[float], *, balance: float) -> torch.Tensor:
    """Offsets float[6] of the logits that undo part of the training set's imbalance (Menon et al. 2021).

    An emotion seen N_j times gets balance * log(N_max / N_j), less what keeps their mean over the training set at 0.
    """
    counts = torch.tensor(class_shares[: len(EMOTIONS)], dtype=torch.float64)
    offsets = balance * torch.log(counts.max() / counts)
    return (offsets - (offsets * counts).sum() / counts.sum()).float()


def load_weights(path: Path, *, balance: float = 0.0) -> tuple[EmotionModel, ModelConfig]:
    """Rebuild a model from a .safetensors file of the emotion stage, `balance_offsets` added to its bias.

    Raises ModelError when the file is of another kind.
    """
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
    if balance:
        with torch.no_grad():
            model.head.bias[: len(EMOTIONS)] += balance_offsets(json.loads(metadata["class_shares"]), balance=balance)
    return model.eval(), config


def export_onnx(weights: Path, out: Path, *, spec: ModelSpec, balance: float = 0.0) -> None:
    """Write `out` (one file, batch size free, metadata inside) from a .safetensors of the emotion stage."""
    model, config = load_weights(weights, balance=balance)
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
        _forget_origin(proto)
        for key, value in spec.to_metadata().items():
            proto.metadata_props.add(key=key, value=value)
        onnx.checker.check_model(proto, full_check=True)
        onnx.save(proto, str(draft))
        draft.replace(out)


def _forget_origin(proto: onnx.ModelProto) -> None:
    """Drop the exporter's notes on where each node came from: stack traces with the paths of the exporting machine."""
    for part in (*proto.graph.node, *proto.graph.value_info, *proto.graph.initializer, *proto.functions, proto.graph):
        del part.metadata_props[:]
        part.doc_string = ""


@torch.inference_mode()
def parity(weights: Path, onnx_path: Path, crops: np.ndarray, *, balance: float = 0.0) -> float:
    """Largest difference of any probability between torch and ONNX Runtime on u8[N, S, S, 3] RGB crops."""
    from femae.engine.spec import preprocess

    model, _ = load_weights(weights, balance=balance)
    engine = OnnxEngine(onnx_path)
    expected = EmotionProbs(model)(torch.from_numpy(preprocess(crops, spec=engine.spec))).numpy()
    return float(np.abs(engine.run(crops)[0] - expected).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--name", default="femae")
    parser.add_argument("--version", default="")
    parser.add_argument("--balance", type=float, default=0.0, help="share of the class imbalance to undo, 0 to 1")
    parser.add_argument("--description", default="")
    parser.add_argument("--terms", default="")
    arguments = parser.parse_args()
    from femae.training.emotion import MEAN, STD

    _, config = load_weights(arguments.weights)
    color: Literal["gray", "rgb"] = "gray" if config.in_chans == 1 else "rgb"
    spec = ModelSpec(
        name=arguments.name,
        version=arguments.version,
        image_size=config.image_size,
        color=color,
        mean=(MEAN,) * config.in_chans,
        std=(STD,) * config.in_chans,
        emotions=EMOTIONS,
        description=arguments.description,
        terms=arguments.terms,
    )
    export_onnx(arguments.weights, arguments.out, spec=spec, balance=arguments.balance)


if __name__ == "__main__":
    main()
