"""Runs trained weights with PyTorch, without an export. The only engine that imports torch."""

from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch

from femae.config.options import DeviceName
from femae.engine.spec import ModelSpec, Probabilities, preprocess
from femae.errors import ConfigError
from femae.labels import EMOTIONS
from femae.models.face import Ensemble, FaceModel
from femae.models.weights import FaceProbs, WeightsInfo, load_model

__all__ = ["TorchEngine", "spec_of"]


def spec_of(info: WeightsInfo) -> ModelSpec:
    """The metadata of a model exported from weights with this `info`."""
    model = info.model
    return ModelSpec(
        name=info.name,
        version=info.version,
        image_size=model.image_size,
        color=model.color,
        mean=model.channel_values(model.mean),
        std=model.channel_values(model.std),
        emotions=EMOTIONS,
        au_names=info.au_names,
        says_none=info.says_none,
        thresholds=info.thresholds,
        expression=info.expression,
        description=info.description,
        terms=info.terms,
    )


class TorchEngine:
    """Engine for a model.safetensors or the folder of a run or an ensemble, in float32 on the CPU or a CUDA device."""

    def __init__(self, path: Path, *, num_threads: int = 1, device: DeviceName = "cpu") -> None:
        """Load the weights; `num_threads` is set for torch in the whole process.

        Raises ModelError, and ConfigError for a device that cannot be used.
        """
        if device not in ("auto", "cpu", "cuda"):
            raise ConfigError(f"--engine torch runs on cpu or cuda, not on {device}: leave out --engine or --device")
        has_cuda = torch.cuda.is_available()
        if device == "cuda" and not has_cuda:
            raise ConfigError("--device cuda: torch finds no CUDA device here (torch.cuda.is_available() is False)")
        torch.set_num_threads(num_threads)
        self._load(*load_model(path), device="cuda" if has_cuda and device != "cpu" else "cpu")

    @classmethod
    def of(cls, model: FaceModel | Ensemble, *, info: WeightsInfo) -> Self:
        """An engine for a model in memory, on the CPU; leaves torch's number of threads unchanged."""
        engine = cls.__new__(cls)
        engine._load(model, info, device="cpu")
        return engine

    def _load(self, model: FaceModel | Ensemble, info: WeightsInfo, *, device: str) -> None:
        self.spec, self.device = spec_of(info), device
        self._net = FaceProbs(model, info=info).eval().to(device)

    @torch.inference_mode()
    def run(self, crops: npt.NDArray[np.uint8]) -> Probabilities:
        """Probabilities of N crops u8[N, S, S, 3] RGB."""
        if len(crops) == 0:
            return self.spec.no_faces()
        outputs = self._net(torch.from_numpy(preprocess(crops, spec=self.spec)).to(self.device))
        return self.spec.to_probabilities([output.cpu().numpy() for output in outputs])
