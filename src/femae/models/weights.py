"""Weights files: safetensors with a metadata entry that describes the network and its input."""

import json
import os
from pathlib import Path
from typing import Final, Literal, Self

import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from femae.config.base import Config
from femae.config.model import ExpressionParams, ModelConfig
from femae.errors import ConfigError, ModelError
from femae.files import replacing
from femae.labels import EMOTIONS, NO_EXPRESSION
from femae.models.face import Ensemble, FaceModel
from femae.shipped import shipped

__all__ = [
    "FaceProbs",
    "WeightsInfo",
    "load_encoder_tensors",
    "load_model",
    "read_info",
    "save_weights",
    "weights_path",
    "write_tensors",
]

_KEY: Final = "femae"
_SUFFIX: Final = ".safetensors"
WEIGHTS_NAME: Final = f"model{_SUFFIX}"


class WeightsInfo(Config):
    """The metadata of a weights file."""

    kind: Literal["encoder", "face", "ensemble"] = Field(description="encoder: of pretraining, with its decoder")
    name: str = "femae"
    version: str = ""
    members: tuple[ModelConfig, ...] = Field(min_length=1)  # one model, or those of the ensemble
    outputs: tuple[str, ...] = ()  # names of the emotion head's outputs
    au_names: tuple[str, ...] = ()  # names of the AU head's outputs
    scale: tuple[float, ...] = ()  # calibration of the six logits: scale * logit + offset; empty: none
    offset: tuple[float, ...] = ()
    thresholds: tuple[float, ...] = ()  # per emotion, for the calibrated probability; empty: 0.5
    au_offset: tuple[float, ...] = ()  # calibration of the AU logits: logit + offset; empty: none
    expression: ExpressionParams | None = None  # rule of the column `expression`, for calibrated probabilities
    description: str = ""
    terms: str = ""

    @property
    def says_none(self) -> bool:
        """Whether the emotion head has an output for none of the six."""
        return NO_EXPRESSION in self.outputs[len(EMOTIONS) :]

    @property
    def model(self) -> ModelConfig:
        """The configuration of the first member; all members have the same input."""
        return self.members[0]

    @classmethod
    def of(cls, model: FaceModel | Ensemble, *, name: str = "femae", description: str = "") -> Self:
        members = model.parts() if isinstance(model, Ensemble) else [model]
        return cls(
            kind="ensemble" if isinstance(model, Ensemble) else "face",
            name=name,
            description=description,
            members=tuple(member.config for member in members),
            outputs=model.outputs,
            au_names=model.au_names,
        )


def save_weights(path: Path, tensors: dict[str, torch.Tensor], *, info: WeightsInfo) -> None:
    """Write a weights file atomically. Raises OSError or SafetensorError with the old file intact."""
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    write_tensors(path, plain, metadata={_KEY: info.model_dump_json()})


def write_tensors(path: Path, tensors: dict[str, torch.Tensor], *, metadata: dict[str, str]) -> None:
    """Write a safetensors file under a temporary name and rename it; its permissions follow the umask.

    Raises OSError or SafetensorError with the old file intact.
    """
    with replacing(path) as partial:
        partial.touch()
        mode = partial.stat().st_mode & 0o777
        save_file(tensors, partial, metadata=metadata)
        partial.chmod(mode)  # safetensors makes files readable by their owner only


def weights_path(path: Path) -> Path:
    """The weights file at a path: of a run's folder its model.safetensors, of `femae:NAME` a shipped file.

    Raises ModelError when there is none.
    """
    path = shipped(path, suffixes=(_SUFFIX,))
    file = path / WEIGHTS_NAME if path.is_dir() else path
    if not file.is_file():
        raise ModelError(f"there are no weights at {path}: give a run's folder with {WEIGHTS_NAME}, or such a file")
    return file


def read_info(path: Path) -> WeightsInfo:
    """The metadata of a weights file. Raises ModelError when the file is damaged or not from femae."""
    file = weights_path(path)
    try:
        with safe_open(os.fspath(file), framework="pt") as opened:
            metadata = opened.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{file} cannot be read as safetensors ({error})") from error
    if _KEY not in metadata:
        raise ModelError(
            f"{file} was not written by femae: its metadata has no entry '{_KEY}'; to start training from it, name "
            f"it in init.weights"
        )
    try:
        return WeightsInfo(**json.loads(metadata[_KEY]))
    except (ConfigError, ValueError, TypeError) as error:
        raise ModelError(f"{file}: the entry '{_KEY}' of its metadata is damaged ({error})") from error


def load_model(path: Path) -> tuple[FaceModel | Ensemble, WeightsInfo]:
    """The model of a weights file or run folder, in evaluation mode, and its metadata.

    Raises ModelError for encoders without heads and for damaged files.
    """
    info, file = read_info(path), weights_path(path)
    if info.kind == "encoder":
        raise ModelError(f"{file} is an encoder of pretraining: train the stage au or emotion from it first")
    members = [FaceModel(config, outputs=info.outputs, au_names=info.au_names) for config in info.members]
    model = Ensemble(members) if info.kind == "ensemble" else members[0]
    try:
        model.load_state_dict(load_file(file))
    except RuntimeError as error:
        raise ModelError(f"{file} does not have the weights that its metadata describes: {error}") from error
    return model.eval(), info


def load_encoder_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The encoder's tensors of a femae weights file, without the prefix `encoder.`."""
    tensors = load_file(weights_path(path))
    return {name.removeprefix("encoder."): value for name, value in tensors.items() if name.startswith("encoder.")}


class FaceProbs(nn.Module):
    """Calibrated probabilities for predict: of the six emotions, then, if the model has them, of action units and of
    none of the six.

    Input float[B, C, S, S], normalised; outputs float[B, 6], then float[B, A] and float[B, 1], in ModelSpec's order.
    """

    def __init__(self, model: FaceModel | Ensemble, *, info: WeightsInfo) -> None:
        """Raises ModelError when the first outputs are not the six emotions."""
        super().__init__()
        count = len(EMOTIONS)
        if info.outputs[:count] != EMOTIONS:
            found = f"the outputs {', '.join(info.outputs)}" if info.outputs else "no emotions"
            raise ModelError(
                f"the model {info.name} has {found}; expected a model of the stage emotion, which has the six emotions"
            )
        self.model, self.has_aus = model, bool(info.au_names)
        self.none = info.outputs.index(NO_EXPRESSION) if info.says_none else None  # index of the output
        self.scale: torch.Tensor
        self.offset: torch.Tensor
        self.register_buffer("scale", torch.tensor(info.scale or (1.0,) * count))
        self.register_buffer("offset", torch.tensor(info.offset or (0.0,) * count))
        self.au_offset: torch.Tensor
        self.register_buffer("au_offset", torch.tensor(info.au_offset or (0.0,) * len(info.au_names)))

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        out = self.model(pixels)
        outputs = [torch.sigmoid(out.logits[:, : len(EMOTIONS)].float() * self.scale + self.offset)]
        if self.has_aus:
            outputs.append(torch.sigmoid(out.au_logits.float() + self.au_offset))
        if self.none is not None:
            outputs.append(torch.sigmoid(out.logits[:, self.none : self.none + 1].float()))
        return tuple(outputs)
