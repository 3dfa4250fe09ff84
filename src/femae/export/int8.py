"""Static 8-bit quantisation of an ONNX graph, calibrated on real crops: weights per channel, activations per tensor.

The graph has quantise and dequantise nodes (QDQ), which ONNX Runtime and OpenVINO turn into 8-bit kernels. Weights use
seven of the eight bits: on processors without VNNI the products of full bytes saturate silently, which would change
the results. Heads and the matrix products of attention stay in float. There are three methods to calibrate the range of
an activation: the best one is chosen on crops not used for calibration. If its probabilities differ too much, more
convolutions are kept in float.
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

NEAR: Final = 0.002  # acceptable mean difference of a probability
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
    """One quantisation that was tried, and how far its probabilities are from the float model's."""

    method: str  # minmax, percentile, entropy
    in_float: str  # what else stays in float besides heads and attention products, in words; may be empty
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
    """Returns the 8-bit graph, its trial, and all trials.

    pixels f32[N, C, S, S], normalised: the first two thirds are for calibration, the rest for comparison.
    """
    cut = max(1, 2 * len(pixels) // 3)
    calibration, held_out = pixels[:cut], pixels[cut:]
    expected = _run(proto, held_out)
    trials: list[Trial] = []

    def better(best: Best | None, method: str, level: tuple[str, list[str]]) -> Best:
        """Quantise this way; returns the better of the result and the best so far."""
        text, in_float = level
        candidate = _quantised(proto, ranges[method], in_float=in_float)
        difference = np.abs(_run(candidate, held_out) - expected)
        trial = Trial(method=method, in_float=text, mean=float(difference.mean()), largest=float(difference.max()))
        trials.append(trial)
        return (candidate, trial) if best is None or trial.mean < best[1].mean else best

    least, *further = _levels(proto)
    best: Best | None = None
    ranges = {}
    for method in _METHODS:
        ranges[method] = _ranges(proto, calibration, method=method)
        best = better(best, method, least)
    assert best is not None
    method = best[1].method
    for level in further:
        if best[1].mean <= NEAR:
            break
        best = better(best, method, level)
    return best[0], best[1], trials


def _levels(proto: onnx.ModelProto) -> list[tuple[str, list[str]]]:
    """Levels of precision: (what else stays in float, in words; names of all float nodes), from fewest to most."""
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
    """The range of each activation, collected in batches: all activations together would not fit into memory."""
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
    """All outputs concatenated, f32[N, K]."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs: list[Any] = [session.run(None, {"pixels": part}) for part in _batches(pixels)]
    return np.concatenate([np.concatenate(output, 1) for output in outputs])
