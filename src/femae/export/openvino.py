"""An ONNX graph to OpenVINO's own files, .xml beside .bin, with the description inside."""

import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import onnx

from femae.engine.spec import METADATA_KEY, ModelSpec

__all__ = ["write_openvino"]

openvino: Any = import_module("openvino")  # its own annotations differ from release to release


def write_openvino(proto: onnx.ModelProto, path: Path, *, spec: ModelSpec) -> None:
    """Write `path` (.xml) and the .bin beside it. Weights keep their type: float32 is not compressed to float16."""
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
