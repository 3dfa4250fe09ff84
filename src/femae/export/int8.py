"""Static 8-bit quantisation of an ONNX graph, calibrated on real crops: weights per channel, activations per tensor.

Quantise and dequantise nodes stand in the graph (QDQ), which ONNX Runtime and OpenVINO both turn into 8-bit kernels.
Weights use seven of the eight bits: on processors without VNNI the products of full bytes overflow in silence, and a
file would give other numbers there. Heads and the products inside attention stay in float. Of three ways to find the
range of an activation, and of three amounts of convolution kept in float, the cheapest is taken whose probabilities
stay near enough on crops that did not calibrate.
"""

import contextlib
import io
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx

# isort: off
from femae.ort import onnxruntime  # before its parts below, which load it
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QDQQuantizer, QuantType
from onnxruntime.quantization.calibrate import create_calibrator
# isort: on

__all__ = ["Trial", "quantise"]

NEAR: Final = 0.002  # mean difference of a probability that is good enough
_OPERATORS: Final = ["Conv", "MatMul", "Gemm"]
_METHODS: Final = {
    "minmax": CalibrationMethod.MinMax,
    "percentile": CalibrationMethod.Percentile,
    "entropy": CalibrationMethod.Entropy,
}
_PERCENTILE: Final = 99.99
_BATCH: Final = 32

Pixels = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One way to quantise, and how far its probabilities are from those in float."""

    method: str  # minmax, percentile, entropy
    in_float: str  # what stays in float besides heads and attention products, in words; empty: nothing
    mean: float
    largest: float


Best = tuple[onnx.ModelProto, Trial]


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, pixels: Pixels) -> None:
        self._batches = iter({"pixels": part} for part in _batches(pixels))

    def get_next(self) -> Any:
        return next(self._batches, None)


def _batches(pixels: Pixels) -> Iterator[Pixels]:
    for start in range(0, len(pixels), _BATCH):
        yield pixels[start : start + _BATCH]


def quantise(proto: onnx.ModelProto, *, pixels: Pixels) -> tuple[onnx.ModelProto, Trial, list[Trial]]:
    """The 8-bit graph, how it was made, and every trial.

    pixels f32[N, C, S, S], normalised: the first two thirds calibrate, the rest judge.
    """
    cut = max(1, 2 * len(pixels) // 3)
    calibrating, judging = pixels[:cut], pixels[cut:]
    expected = _run(proto, judging)
    trials: list[Trial] = []

    def better(best: Best | None, method: str, level: tuple[str, list[str]]) -> Best:
        """The better of this way and the best so far."""
        words, in_float = level
        candidate = _quantised(proto, ranges[method], in_float=in_float)
        difference = np.abs(_run(candidate, judging) - expected)
        trial = Trial(method=method, in_float=words, mean=float(difference.mean()), largest=float(difference.max()))
        trials.append(trial)
        return (candidate, trial) if best is None or trial.mean < best[1].mean else best

    least, *further = _levels(proto)
    best: Best | None = None
    ranges = {}
    for method in _METHODS:
        ranges[method] = _ranges(proto, calibrating, method=method)
        best = better(best, method, least)
    assert best is not None
    method = best[1].method
    for level in further:
        if best[1].mean <= NEAR:
            break
        best = better(best, method, level)
    return best[0], best[1], trials


def _levels(proto: onnx.ModelProto) -> list[tuple[str, list[str]]]:
    """(what stays in float, in words; names of all nodes that do), from little to much."""
    graph = proto.graph
    weights = {tensor.name for tensor in graph.initializer}
    always = [node.name for node in graph.node if node.op_type == "Gemm"]
    always += [node.name for node in graph.node if node.op_type == "MatMul" and not weights & set(node.input)]
    convs = [node for node in graph.node if node.op_type == "Conv"]
    first = [node.name for node in convs if "pixels" in node.input]
    levels = [("", always), ("the first convolution", [*always, *first])]
    if len(convs) > len(first):
        levels.append(("all convolutions", always + [node.name for node in convs]))
    return levels


def _ranges(proto: onnx.ModelProto, pixels: Pixels, *, method: str) -> Any:
    """The range of each activation, gathered in small parts: all activations of all crops would fill the memory."""
    options = {"symmetric": False} | ({"percentile": _PERCENTILE} if method == "percentile" else {})
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        source = Path(folder) / "model.onnx"
        onnx.save(proto, str(source))
        calibrator = create_calibrator(
            source,
            _OPERATORS,
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=_METHODS[method],
            extra_options=options,
        )
        for part in _batches(pixels):
            calibrator.collect_data(_Reader(part))
        return calibrator.compute_data()


def _quantised(proto: onnx.ModelProto, ranges: Any, *, in_float: list[str]) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    quantizer = QDQQuantizer(
        copy, True, True, QuantType.QInt8, QuantType.QUInt8, ranges, [], in_float, _OPERATORS, {}
    )  # per channel, seven bits of weights
    quantizer.quantize_model()
    result: onnx.ModelProto = quantizer.model.model
    return result


def _run(proto: onnx.ModelProto, pixels: Pixels) -> npt.NDArray[np.float32]:
    """All outputs side by side, f32[N, 6 + A]."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs: list[Any] = [session.run(None, {"pixels": part}) for part in _batches(pixels)]
    return np.concatenate([np.concatenate(output, 1) for output in outputs])
