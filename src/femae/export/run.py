"""`femae export`: converts weights to one file, then compares it with them."""

import importlib.util
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from femae.config.export import SUFFIXES, ExportConfig
from femae.engine.load import load_engine
from femae.engine.spec import preprocess
from femae.errors import MissingDependencyError, OutputError
from femae.export.check import F1, Parity, compare_f1, labelled_rows, noise_crops, parity, sample_crops, time_per_crop

__all__ = ["ExportResult", "export_model", "run_export"]

_NUM_HELD_OUT = 256  # crops for parity, drawn after those for calibration


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportResult:
    """The written file, and its comparison with the weights."""

    paths: tuple[Path, ...]  # the file for `predict --model`, then files that belong to it
    num_bytes: int
    parity: Parity
    real_crops: bool  # parity was measured on faces, not on noise
    f1: F1 | None
    ms_before: float  # per crop, batch 8, one thread
    ms_after: float
    trials: tuple[Any, ...]  # all int8.Trial
    chosen: Any | None


def run_export(config: ExportConfig) -> int:
    """Write the file and print the comparison. Raises FemaeError."""
    if config.format == "safetensors":
        _require(config)
        from femae.export.weights import export_weights

        path = export_weights(config)
        if not config.quiet:
            Console(soft_wrap=True, highlight=False).print(f"{path}: {path.stat().st_size / 1e6:.1f} MB", markup=False)
        return 0
    status = Console(stderr=True)
    result = export_model(config, status=None if config.quiet or not status.is_terminal else status)
    if not config.quiet:
        out = Console(soft_wrap=True, highlight=False)
        for line in summary_lines(result):
            out.print(line, markup=False)
    return 0


def export_model(config: ExportConfig, *, status: Console | None = None) -> ExportResult:
    """Export a model and compare it with its weights; `status`: a terminal for progress messages. Raises FemaeError."""
    _require(config)
    import torch

    from femae.engine.torch import TorchEngine, spec_of
    from femae.export.graph import to_onnx, write_onnx
    from femae.export.int8 import quantise
    from femae.export.weights import described
    from femae.models.weights import FaceProbs, load_model, weights_path

    model, info = load_model(config.weights)
    info = described(info, config)
    spec = spec_of(info).model_copy(update={"precision": config.precision})
    out = config.out or weights_path(config.weights).parent / default_name(config)
    rows = [labelled_rows(folder, sources=config.label_sources, splits=config.label_splits) for folder in config.labels]
    torch.set_num_threads(1)
    with _progress(status, "exporting"):
        proto = to_onnx(FaceProbs(model, info=info), spec=spec)
    crops, num_calibration = _crops(config, size=spec.image_size)
    trials: tuple[Any, ...] = ()
    chosen = None
    if config.precision == "int8":
        with _progress(status, "quantising"):
            proto, chosen, tried = quantise(proto, pixels=preprocess(crops[:num_calibration], spec=spec))
        trials = tuple(tried)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if config.format == "onnx":
            write_onnx(proto, out, spec=spec)
        else:
            from femae.export.graph import write_openvino

            write_openvino(proto, out, spec=spec)
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error}") from error
    with _progress(status, "comparing"):
        before, after = TorchEngine.of(model, info=info), load_engine(out)
        held_out = crops[num_calibration:] if num_calibration < len(crops) else crops
        paths = (out, out.with_suffix(".bin")) if config.format == "openvino" else (out,)
        return ExportResult(
            paths=paths,
            num_bytes=sum(path.stat().st_size for path in paths),
            parity=parity(before, after, crops=held_out),
            real_crops=config.calibration is not None,
            f1=compare_f1(before, after, manifests=rows) if rows else None,
            ms_before=time_per_crop(before, crops=held_out),
            ms_after=time_per_crop(after, crops=held_out),
            trials=trials,
            chosen=chosen,
        )


def default_name(config: ExportConfig) -> str:
    """The default file name: model.onnx, model.int8.onnx, model.xml or model.int8.xml."""
    return "model" + (".int8" if config.precision == "int8" else "") + SUFFIXES[config.format]


def _crops(config: ExportConfig, *, size: int) -> tuple[Any, int]:
    """Crops u8[N, S, S, 3], and how many of the first ones are for calibration; the others are for comparison."""
    if config.calibration is None:
        return noise_crops(size=size, count=64), 0
    crops = sample_crops(config.calibration, size=size, count=config.calibration_size + _NUM_HELD_OUT)
    return crops, max(2, len(crops) - max(1, min(_NUM_HELD_OUT, len(crops) // 4)))


def summary_lines(result: ExportResult) -> list[str]:
    """The lines that `femae export` prints."""
    names = " and ".join(str(path) for path in result.paths)
    found = result.parity
    what = "crops that took no part in calibration" if result.trials else "crops"
    lines = [f"{names}: {result.num_bytes / 1e6:.1f} MB"]
    if result.chosen is not None:
        kept = "heads, attention products" + (f", {result.chosen.in_float}" if result.chosen.in_float else "")
        lines.append(f"  8 bits: ranges by {result.chosen.method}; in float: {kept}")
        for trial in result.trials:
            without = f", {trial.in_float} in float" if trial.in_float else ""
            lines.append(f"    {trial.method}{without}: mean difference {trial.mean:.4f}, largest {trial.largest:.3f}")
    lines.append(
        f"  parity: probabilities differ from the weights' by {found.mean:.1e} on average, {found.largest:.1e} at "
        "most; "
        f"the strongest emotion is the same for {found.same_emotion:.1%} of {found.num_crops} "
        + (what if result.real_crops else "synthetic pictures (give real ones with --calibration)")
    )
    if result.f1 is not None:
        lines += _f1_lines(result.f1)
    lines.append(
        f"  time: {result.ms_after:.2f} ms per crop in batches of 8 on one thread; torch {result.ms_before:.2f}"
    )
    return lines


def _f1_lines(f1: F1) -> list[str]:
    lines = []
    for name, (before, after), count in (
        ("six emotions", f1.emotions, f1.num_emotions),
        ("action units", f1.action_units, f1.num_action_units),
    ):
        if count:
            lines.append(
                f"  F1, {name}: {before:.4f} before, {after:.4f} after ({after - before:+.4f}) on {count} crops"
            )
    return lines


def _progress(status: Console | None, what: str) -> AbstractContextManager[object]:
    return nullcontext() if status is None else status.status(what)


def _require(config: ExportConfig) -> None:
    """Raises MissingDependencyError, before any work, if a package is not installed."""
    needed = {"torch": "train", "onnx": "train", "onnxscript": "train"}
    if config.format == "openvino":
        needed["openvino"] = "openvino"
    for package, extra in needed.items():
        if importlib.util.find_spec(package) is None:
            raise MissingDependencyError(
                f"export needs the package {package}, which is not installed: pip install 'femae[{extra}]'"
            )
