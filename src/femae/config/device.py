"""The option `--device`: which processor runs the networks."""

from typing import Annotated, Final, Literal, get_args

from pydantic import Field

__all__ = ["DEVICES", "DeviceName", "DeviceOption"]

DeviceName = Literal["auto", "cpu", "cuda", "coreml", "directml", "openvino"]
DEVICES: Final[tuple[DeviceName, ...]] = get_args(DeviceName)
DeviceOption = Annotated[
    DeviceName,
    Field(
        description="what runs the networks; auto: the best that is installed. cuda, directml and openvino need "
        "another package of ONNX Runtime (the error names it)"
    ),
]
