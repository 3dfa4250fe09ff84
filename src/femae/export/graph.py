"""Exports a model to a float32 graph with a dynamic batch size, and writes it with its metadata.

The file is ONNX, or OpenVINO's .xml and .bin.
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
_MAX_BYTES: Final = 2_000_000_000  # limit of a protobuf message


def to_onnx(model: FaceProbs, *, spec: ModelSpec) -> onnx.ModelProto:
    """The graph from `pixels` f32[N, C, S, S] to the outputs of `spec`, such as `probs` f32[N, 6], without metadata.

    Raises ModelError for models of more than 2 GB, the limit of one file.
    """
    size = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    if size > _MAX_BYTES:
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
    _strip_metadata(proto)
    onnx.checker.check_model(proto, full_check=True)
    batch = proto.graph.input[0].type.tensor_type.shape.dim[0]
    assert batch.dim_param, "the exporter has fixed the batch size"
    return proto


def write_onnx(proto: onnx.ModelProto, path: Path, *, spec: ModelSpec) -> None:
    """Write `path` with `spec` as metadata, atomically."""
    complete = onnx.ModelProto()
    complete.CopyFrom(proto)
    del complete.metadata_props[:]
    for key, value in spec.to_metadata().items():
        complete.metadata_props.add(key=key, value=value)
    with replacing(path) as partial:
        onnx.save(complete, str(partial))


def _strip_metadata(proto: onnx.ModelProto) -> None:
    """Remove the exporter's notes: stack traces with paths of this machine."""
    for part in (*proto.graph.node, *proto.graph.value_info, *proto.graph.initializer, *proto.functions, proto.graph):
        del part.metadata_props[:]
        part.doc_string = ""


def write_openvino(proto: onnx.ModelProto, path: Path, *, spec: ModelSpec) -> None:
    """Write `path` (.xml) and the .bin beside it, with `spec` as metadata; weights are not compressed to float16."""
    openvino: Any = import_module("openvino")  # its type annotations differ between releases
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:
        source, target = Path(folder) / "model.onnx", Path(folder) / path.name
        onnx.save(proto, str(source))
        model = openvino.Core().read_model(source)
        for key, value in spec.to_metadata().items():
            assert key == METADATA_KEY
            model.set_rt_info(value, [key])
        openvino.save_model(model, target, compress_to_fp16=False)
        del model  # it memory-maps the file that is deleted next
        target.with_suffix(".bin").replace(path.with_suffix(".bin"))
        target.replace(path)
