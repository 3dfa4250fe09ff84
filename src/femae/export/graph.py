"""A model in memory to a graph of float32 with a free batch size, and the file that carries its own description.

The file is ONNX, or OpenVINO's .xml beside .bin.
"""

import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import onnx
import torch

from femae.engine.spec import METADATA_KEY, ModelSpec
from femae.errors import ModelError
from femae.files import replacing
from femae.models.weights import FaceProbs

__all__ = ["to_onnx", "write_onnx", "write_openvino"]

_OPSET: Final = 20  # the first with Gelu as one node; ONNX Runtime 1.19 and OpenVINO 2024 read it
_MOST_BYTES: Final = 2_000_000_000  # of one protobuf message


def to_onnx(model: FaceProbs, *, spec: ModelSpec) -> onnx.ModelProto:
    """The graph `pixels` f32[N, C, S, S] -> `probs` f32[N, 6] (and `au_probs` f32[N, A]), without a description yet.

    Raises ModelError for models of more than 2 GB, which one file cannot hold.
    """
    size = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    if size > _MOST_BYTES:
        raise ModelError(f"the model has {size / 1e9:.1f} GB of weights; one ONNX file holds at most 2 GB")
    example = torch.zeros(2, spec.num_channels, spec.image_size, spec.image_size)
    program = torch.onnx.export(
        model.eval(),
        (example,),
        input_names=["pixels"],
        output_names=spec.output_names,
        dynamic_shapes={"pixels": {0: torch.export.Dim("batch")}},
        opset_version=_OPSET,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    proto = program.model_proto
    _forget_origin(proto)
    onnx.checker.check_model(proto, full_check=True)
    batch = proto.graph.input[0].type.tensor_type.shape.dim[0]
    assert batch.dim_param, "the exporter has fixed the batch size"
    return proto


def write_onnx(proto: onnx.ModelProto, path: Path, *, spec: ModelSpec) -> None:
    """Write `path` with the description inside; an unfinished file never stands under its name."""
    complete = onnx.ModelProto()
    complete.CopyFrom(proto)
    del complete.metadata_props[:]
    for key, value in spec.to_metadata().items():
        complete.metadata_props.add(key=key, value=value)
    with replacing(path) as partial:
        onnx.save(complete, str(partial))


def _forget_origin(proto: onnx.ModelProto) -> None:
    """Drop the exporter's notes on where each node came from: stack traces with the paths of the exporting machine."""
    for part in (*proto.graph.node, *proto.graph.value_info, *proto.graph.initializer, *proto.functions, proto.graph):
        del part.metadata_props[:]
        part.doc_string = ""


def write_openvino(proto: onnx.ModelProto, path: Path, *, spec: ModelSpec) -> None:
    """Write `path` (.xml) and the .bin beside it. Weights keep their type: float32 is not compressed to float16."""
    openvino: Any = import_module("openvino")  # its own annotations differ from release to release
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:
        source, target = Path(folder) / "model.onnx", Path(folder) / path.name
        onnx.save(proto, str(source))
        model = openvino.Core().read_model(source)
        for key, value in spec.to_metadata().items():
            assert key == METADATA_KEY
            model.set_rt_info(value, [key])
        openvino.save_model(model, target, compress_to_fp16=False)
        del model  # it maps the file that is to vanish
        target.with_suffix(".bin").replace(path.with_suffix(".bin"))
        target.replace(path)
