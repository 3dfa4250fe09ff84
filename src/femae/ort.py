"""ONNX Runtime with telemetry switched off, and its sessions on the requested device.

Since 1.29 its packages send usage data to their maker, unless the environment has `ORT_DISABLE_TELEMETRY=1` before they
are loaded. People who analyse faces in films need a program that sends nothing, so telemetry is switched off here, and
everything in femae gets ONNX Runtime from here. A value that the user has set is kept.

When the provider of a device cannot start, ONNX Runtime silently continues on the CPU. Here that is an error, or with
`auto` the next device is tried, and every session reports its device.
"""

import os
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from femae.config.options import DEVICES, DeviceName
from femae.errors import ConfigError, MissingDependencyError

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

__all__ = ["Session", "installed_devices", "onnxruntime", "open_session", "session_options"]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Provider:
    """How ONNX Runtime calls what runs a network, and which package has it."""

    name: str
    package: str
    settings: Mapping[str, str] = field(default_factory=dict)


_PROVIDERS: Final[dict[str, _Provider]] = {  # from the fastest on
    # TF32 would round products to 10 bits; labels shall not depend on the device
    "cuda": _Provider(name="CUDAExecutionProvider", package="onnxruntime-gpu", settings={"use_tf32": "0"}),
    "directml": _Provider(name="DmlExecutionProvider", package="onnxruntime-directml"),
    "coreml": _Provider(
        name="CoreMLExecutionProvider",
        package="onnxruntime for macOS",
        settings={"ModelFormat": "MLProgram", "AllowLowPrecisionAccumulationOnGPU": "0"},
    ),
    "openvino": _Provider(
        name="OpenVINOExecutionProvider", package="onnxruntime-openvino", settings={"precision": "ACCURACY"}
    ),
    "cpu": _Provider(name="CPUExecutionProvider", package="onnxruntime"),
}
_ONE_CALL: Final = ("directml",)  # devices whose sessions serve one call at a time


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """A network that is ready to run, from any number of threads at once."""

    inner: Any  # onnxruntime.InferenceSession
    device: str  # where it runs: one of DEVICES without auto
    _turn: AbstractContextManager[Any] = field(default_factory=nullcontext)

    def run(self, feeds: Mapping[str, Any], options: Any = None) -> list[Any]:
        """All outputs for these inputs, by name."""
        with self._turn:
            outputs: list[Any] = self.inner.run(None, dict(feeds), options)
            return outputs


def installed_devices() -> list[str]:
    """The devices that this ONNX Runtime was built for, the fastest first; whether there is one it does not say."""
    available = onnxruntime.get_available_providers()
    return [device for device, provider in _PROVIDERS.items() if provider.name in available]


def session_options(*, num_threads: int) -> Any:
    """Options of a session whose calls take `num_threads` cores of the processor."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised
    return options


def open_session(model: bytes | Path, *, options: Any, device: DeviceName = "cpu") -> Session:
    """A session of a network on a device. Raises what ONNX Runtime raises for a network that it cannot read.

    Raises ConfigError for a device that cannot be used here, MissingDependencyError for one whose package is missing.
    """
    if device not in DEVICES:
        raise ConfigError(f"'{device}' is not a device; expected {', '.join(DEVICES)}")
    installed = installed_devices()
    if device != "auto" and device not in installed:
        provider = _PROVIDERS[device]
        where = ", which runs only on macOS" if device == "coreml" and sys.platform != "darwin" else ""
        raise MissingDependencyError(
            f"--device {device} needs the package {provider.package}{where} in place of onnxruntime "
            f"(pip uninstall onnxruntime; pip install {provider.package.split()[0]}); installed is what runs "
            f"{', '.join(installed)}"
        )
    reasons: list[str] = []
    for candidate in installed if device == "auto" else [device]:
        session = _try(model, options, candidate, reasons)
        if session is not None:
            return session
    raise ConfigError(
        f"--device {device} cannot be used on this machine: {'; '.join(reasons) or 'it does not start'}; --device "
        f"auto uses what works"
    )


def _try(model: bytes | Path, options: Any, device: str, reasons: list[str]) -> Session | None:
    """The session, or None where the device does not start, with the reason."""
    provider = _PROVIDERS[device]
    providers: Sequence[Any] = [(provider.name, dict(provider.settings))]
    if device != "cpu":
        providers = [*providers, "CPUExecutionProvider"]  # for what the device has no kernel for
    if device == "directml":
        options.enable_mem_pattern = False
    try:
        inner = onnxruntime.InferenceSession(
            model if isinstance(model, bytes) else str(model), options, providers=providers, enable_fallback=0
        )
    except Exception as error:
        if device == "cpu":
            raise
        reasons.append(str(error).strip().splitlines()[0][:200])
        return None
    if inner.get_providers()[0] != provider.name:
        reasons.append(f"{provider.name} does not start (no such device, or its driver or libraries are missing)")
        return None
    return Session(inner=inner, device=device, _turn=threading.Lock() if device in _ONE_CALL else nullcontext())
