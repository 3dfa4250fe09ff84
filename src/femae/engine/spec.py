"""The metadata of a model file, and the protocol of the engines that run it.

A model file carries its input size, colour mode, mean, std, label order and framing in its own metadata, so that
preprocessing needs no other source of constants (DESIGN, house rule 6).
"""

import json
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import Field

from femae.config.base import Config
from femae.config.model import ExpressionParams
from femae.errors import ConfigError, ModelError
from femae.labels import EMOTIONS

__all__ = ["METADATA_KEY", "Engine", "ModelSpec", "Probabilities", "preprocess"]

METADATA_KEY = "femae"


class Probabilities(NamedTuple):
    """Outputs of a model for N crops, each 0..1."""

    probs: npt.NDArray[np.float32]  # f32[N, 6] in the order of EMOTIONS
    au_probs: npt.NDArray[np.float32]  # f32[N, A] in the order of ModelSpec.au_names
    none_probs: npt.NDArray[np.float32]  # f32[N, 1]: none of the six; f32[N, 0] for models without this output


class ModelSpec(Config):
    """Preprocessing and label order of one model."""

    name: str
    version: str = ""
    image_size: int = Field(gt=0)  # side of the square input, pixels
    color: Literal["gray", "rgb"]  # gray: ITU-R 601 luma
    mean: tuple[float, ...]  # per channel, of values in 0..1
    std: tuple[float, ...]  # per channel, of values in 0..1
    emotions: tuple[str, ...]
    au_names: tuple[str, ...] = ()
    says_none: bool = False  # whether there is an output for the probability of none of the six
    framing: str = ""  # JSON of faces.crop.Framing; empty: the default framing
    thresholds: tuple[float, ...] = ()  # probability per emotion above which it counts as shown; empty: 0.5
    expression: ExpressionParams | None = None  # of the expression label; None: the defaults of compound.expression
    precision: Literal["fp32", "int8"] = "fp32"
    description: str = ""
    terms: str = ""

    @property
    def num_channels(self) -> int:
        return 1 if self.color == "gray" else 3

    @property
    def output_names(self) -> list[str]:
        """Names of the file's outputs, in order."""
        return ["probs", *(["au_probs"] if self.au_names else []), *(["none_probs"] if self.says_none else [])]

    def to_metadata(self) -> dict[str, str]:
        return {METADATA_KEY: self.model_dump_json()}

    @classmethod
    def from_metadata(cls, metadata: dict[str, str], *, path: str) -> "ModelSpec":
        """Parse the entry `femae` of a file's metadata. Raises ModelError when it is absent, damaged or wrong."""
        if METADATA_KEY not in metadata:
            raise ModelError(
                f"{path} is not a femae model: its metadata has no entry '{METADATA_KEY}' with size, mean, std and "
                "label order; give a file written by femae"
            )
        try:
            spec = cls(**json.loads(metadata[METADATA_KEY]))
        except (ConfigError, json.JSONDecodeError, TypeError) as error:
            first = str(error).splitlines()[0]
            raise ModelError(f"{path}: the entry '{METADATA_KEY}' of its metadata is damaged ({first})") from error
        if spec.emotions != EMOTIONS:
            raise ModelError(
                f"{path} has the emotions {', '.join(spec.emotions)}; expected {', '.join(EMOTIONS)}, in this order"
            )
        if spec.expression is not None and spec.expression.none_weight and not spec.says_none:
            raise ModelError(
                f"{path}: its expression rule needs the output none_probs, which it does not have; "
                f"export the model again"
            )
        if not len(spec.mean) == len(spec.std) == spec.num_channels:
            raise ModelError(f"{path}: mean and std must have {spec.num_channels} values for {spec.color} pictures")
        return spec

    def check_names(self, *, inputs: list[str], outputs: list[str], path: str) -> None:
        """Raise ModelError unless a file has the input `pixels` and the outputs `output_names`."""
        if inputs != ["pixels"] or outputs != self.output_names:
            raise ModelError(
                f"{path} has outputs {outputs}; expected input 'pixels' and outputs {self.output_names}: give a file "
                "written by femae"
            )

    def no_faces(self) -> Probabilities:
        """The result for zero crops."""
        sizes = (len(EMOTIONS), len(self.au_names), int(self.says_none))
        return Probabilities(*(np.zeros((0, size), np.float32) for size in sizes))

    def to_probabilities(self, outputs: Sequence[Any]) -> Probabilities:
        """Convert a network's outputs, in the order of output_names; those it does not have become f32[N, 0]."""
        given = dict(zip(self.output_names, (np.asarray(output, np.float32) for output in outputs), strict=True))
        empty = np.zeros((len(given["probs"]), 0), np.float32)
        return Probabilities(given["probs"], given.get("au_probs", empty), given.get("none_probs", empty))


class Engine(Protocol):
    """Runs a model on crops; `run` may be called from several threads at once."""

    spec: ModelSpec
    device: str  # where it runs: cpu, cuda, ...

    def run(self, crops: npt.NDArray[np.uint8]) -> Probabilities:
        """Probabilities of N crops u8[N, S, S, 3] RGB."""
        ...


def preprocess(crops: npt.NDArray[np.uint8], *, spec: ModelSpec) -> npt.NDArray[np.float32]:
    """Normalise u8[N, S, S, 3] RGB to f32[N, C, S, S]. Gray is ITU-R 601 luma, rounded as Pillow's mode L is."""
    assert crops.ndim == 4 and crops.shape[1:] == (spec.image_size, spec.image_size, 3), crops.shape
    if spec.color == "gray":
        rgb = crops.astype(np.uint32)
        luma = (rgb[..., 0] * 19595 + rgb[..., 1] * 38470 + rgb[..., 2] * 7471 + 0x8000) >> 16
        planes = luma[:, None].astype(np.float32)  # [N, 1, S, S]
    else:
        planes = crops.transpose(0, 3, 1, 2).astype(np.float32)  # [N, 3, S, S]
    mean = np.asarray(spec.mean, np.float32)[:, None, None]
    std = np.asarray(spec.std, np.float32)[:, None, None]
    return np.ascontiguousarray((planes / np.float32(255) - mean) / std)
