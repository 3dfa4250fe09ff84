"""Loads a face detector: the built-in one, or an ONNX file whose kind is recognised by its outputs."""

from pathlib import Path
from typing import Any

from femae.config.options import DeviceName
from femae.errors import ModelError
from femae.faces.onnx_net import OnnxNet, open_net
from femae.faces.retinaface import RetinaFace, builtin_weights
from femae.faces.scales import ScaledDetector
from femae.faces.strided import SCRFD, YuNet

__all__ = ["load_detector"]

_KINDS = (RetinaFace, SCRFD, YuNet)
_WEAK = 0.25  # of the threshold: lowest score at which a detection may confirm one that exceeds it at another scale


def load_detector(
    path: Path | None = None,
    *,
    num_threads: int = 1,
    score_threshold: float | None = None,
    device: DeviceName = "cpu",
) -> ScaledDetector:
    """Load a detector for pictures of any size, which may be shared by several threads.

    `path` None: the built-in RetinaFace; else an ONNX file of a RetinaFace, an SCRFD or a YuNet. `num_threads`: CPU
    threads for one picture; where several threads call the detector, 1 is best. `score_threshold`: 0..1; None: the
    kind's default. Raises ModelError when the file is missing, not ONNX, or another kind of network,
    MissingDependencyError when the package of the built-in network or of the device is not installed, ConfigError when
    the device cannot be used.
    """
    if path is None:
        net = open_net(builtin_weights(), num_threads=num_threads, device=device)
        return _scaled(RetinaFace, net, score_threshold, multiple=1)
    net = open_net(path, num_threads=num_threads, device=device)
    for kind in _KINDS:
        if kind.fits(net):
            return _scaled(kind, net, score_threshold)
    shapes = ", ".join(str(list(shape)) for shape in net.output_shapes[:12])
    raise ModelError(
        f"'{path}' is not a supported face detector: for a picture of {net.probe_hw[1]}x{net.probe_hw[0]} it "
        f"returns {shapes}. Supported are RetinaFace (boxes, classes, landmarks over all anchors), SCRFD of "
        "InsightFace (6 or 9 outputs) and YuNet of OpenCV (12 outputs)"
    )


def _scaled(kind: type[Any], net: OnnxNet, score_threshold: float | None, **options: int) -> ScaledDetector:
    threshold: float = kind.default_score_threshold if score_threshold is None else score_threshold
    detector = kind(net, score_threshold=threshold * _WEAK, **options)
    return ScaledDetector(detector, score_threshold=threshold, device=net.session.device)
