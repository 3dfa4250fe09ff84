"""ONNX Runtime with telemetry switched off, and its sessions on the requested device.

Since 1.29 its packages send usage data to their vendor unless `ORT_DISABLE_TELEMETRY=1` is set before they are loaded.
Software for films of faces must not send anything, so the variable is set here (unless the user has set it), and all
modules of femae import ONNX Runtime from here.

When the provider of a device cannot start, ONNX Runtime silently falls back to the CPU. Here that is an error, or with
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
    """An execution provider of ONNX Runtime, and the package that contains it."""

    name: str
    package: str
    settings: Mapping[str, str] = field(default_factory=dict)


_PROVIDERS: Final[dict[str, _Provider]] = {  # device -> provider, the fastest first
    # Without TF32, which rounds factors to 10 bits: labels must not depend on the device.
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
_SERIAL: Final = ("directml",)  # devices whose sessions allow one call at a time


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """A loaded network; `run` may be called from several threads at once."""

    inner: Any  # onnxruntime.InferenceSession
    device: str  # where it runs: one of DEVICES without auto
    _lock: AbstractContextManager[Any] = field(default_factory=nullcontext)

    def run(self, feeds: Mapping[str, Any], options: Any = None) -> list[Any]:
        """All outputs, in the file's order, for inputs by name; `options`: onnxruntime.RunOptions."""
        with self._lock:
            outputs: list[Any] = self.inner.run(None, dict(feeds), options)
            return outputs


def installed_devices() -> list[str]:
    """Devices supported by the installed ONNX Runtime, the fastest first; this machine may not have all of them."""
    available = onnxruntime.get_available_providers()
    return [device for device, provider in _PROVIDERS.items() if provider.name in available]


def session_options(*, num_threads: int) -> Any:
    """Session options with `num_threads` CPU threads for each call."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors are raised as exceptions
    return options


def open_session(model: bytes | Path, *, options: Any, device: DeviceName = "cpu") -> Session:
    """Load a network (ONNX bytes or file) on a device; `options` are those of `session_options`.

    Raises what ONNX Runtime raises for a network that it cannot read, ConfigError for a device that cannot be used
    here, MissingDependencyError for a device whose package is not installed.
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
    """A session on one device; if it cannot start, appends the reason to `reasons` and returns None."""
    provider = _PROVIDERS[device]
    providers: Sequence[Any] = [(provider.name, dict(provider.settings))]
    if device != "cpu":
        providers = [*providers, "CPUExecutionProvider"]  # for operators without a kernel on the device
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
    return Session(inner=inner, device=device, _lock=threading.Lock() if device in _SERIAL else nullcontext())
