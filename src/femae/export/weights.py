"""Exports weights as safetensors: a model with name, terms and calibration, or only its encoder, for training."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from safetensors import SafetensorError
from safetensors.torch import load_file

from femae.config.export import ExportConfig
from femae.config.model import ExpressionParams
from femae.errors import ConfigError, DataError, ModelError, OutputError
from femae.export.units import choose_units
from femae.labels import EMOTIONS
from femae.models.weights import WeightsInfo, read_info, save_weights, weights_path
from femae.training.tasks.expression import MIN_COMPOUNDS, MIN_FACES, fit_expression_to_tables

__all__ = ["balance_offsets", "balanced", "described", "export_weights", "tempered"]


def balance_offsets(class_counts: Sequence[float], *, balance: float) -> tuple[float, ...]:
    """Six logit offsets: balance * log(N_max / N_j) for an emotion with N_j samples, minus their mean over the
    training set."""
    counts = np.asarray(class_counts, np.float64)
    offsets = balance * np.log(counts.max() / counts)
    return tuple((offsets - (offsets * counts).sum() / counts.sum()).tolist())


def balanced(info: WeightsInfo, *, class_counts: Sequence[float], balance: float) -> WeightsInfo:
    """The metadata with balance_offsets added to the calibration's offset, which is applied after its scale."""
    before = info.offset or (0.0,) * len(EMOTIONS)
    after = balance_offsets(class_counts, balance=balance)
    offset = tuple(old + new for old, new in zip(before, after, strict=True))
    return info.model_copy(update={"scale": info.scale or (1.0,) * len(EMOTIONS), "offset": offset})


def tempered(info: WeightsInfo, *, temperature: float) -> WeightsInfo:
    """The metadata with the calibrated logits divided by a temperature (Guo et al. 2017)."""
    if temperature == 1:
        return info
    scale, offset = info.scale or (1.0,) * len(EMOTIONS), info.offset or (0.0,) * len(EMOTIONS)
    return info.model_copy(
        update={
            "scale": tuple(value / temperature for value in scale),
            "offset": tuple(value / temperature for value in offset),
        }
    )


def described(info: WeightsInfo, config: ExportConfig) -> WeightsInfo:
    """The metadata with the texts, balance, temperature and expression rule of a command line. Raises FemaeError."""
    words = {key: getattr(config, key) for key in ("name", "version", "description", "terms")}
    info = info.model_copy(update={key: value for key, value in words.items() if value is not None})
    if config.balance:
        info = balanced(info, class_counts=config.class_counts, balance=config.balance)
    info = tempered(info, temperature=config.temperature)
    if config.expression_from:
        return info.model_copy(update={"expression": _fitted(info, config.expression_from)})
    if info.expression is not None and (config.balance or config.temperature != 1):
        raise ConfigError(
            "the expression rule in these weights was fitted to probabilities without this balance and temperature: "
            "give tables of scores with --expression-from to fit it again"
        )
    return info


def _fitted(info: WeightsInfo, tables: Sequence[Path]) -> ExpressionParams:
    """The parameters of the expression rule, fitted to tables. Raises DataError if they have too few faces."""
    for path in tables:
        if not path.is_file():
            raise DataError(f"there is no table of scores {path}: give the scores.parquet or oof.parquet of a run")
    fitted = fit_expression_to_tables(tables, scale=info.scale, offset=info.offset)
    if fitted is None:
        raise DataError(
            f"the tables of --expression-from hold too few faces to fit to: at least {MIN_FACES} with a clear label, "
            f"{MIN_COMPOUNDS} of them compounds"
        )
    return fitted


def _weights_of(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a weights file, or the averaged (EMA) weights of a run's state. Raises ModelError."""
    file = path if path.is_file() else weights_path(path)
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{file} cannot be read as safetensors ({error})") from error
    averaged = {name.removeprefix("ema."): value for name, value in tensors.items() if name.startswith("ema.")}
    return averaged or tensors


def _mean(found: Sequence[dict[str, torch.Tensor]], source: Path) -> dict[str, torch.Tensor]:
    """The mean of each tensor; integer tensors are the first one's. Raises ModelError for different networks."""
    shapes = [{name: value.shape for name, value in tensors.items()} for tensors in found]
    if any(other != shapes[0] for other in shapes):
        raise ModelError(f"the weights of --mean-with do not belong to the network of {source}: names or shapes differ")
    return {
        name: torch.stack([tensors[name] for tensors in found]).mean(0) if value.is_floating_point() else value
        for name, value in found[0].items()
    }


def _with_units(
    tensors: dict[str, torch.Tensor], info: WeightsInfo, config: ExportConfig
) -> tuple[dict[str, torch.Tensor], WeightsInfo]:
    """Keep the action units with a sufficient F1, each with the threshold 0.5. Raises ModelError if none is left."""
    if unknown := sorted(set(config.drop_units) - set(info.au_names)):
        raise ModelError(
            f"{config.weights} has no {', '.join(unknown)} to drop, only {', '.join(info.au_names) or 'none'}"
        )
    choice = choose_units(
        config.units_from, names=info.au_names, least_f1=config.least_unit_f1, sources=config.unit_sources
    )
    offsets = {name: value for name, value in choice.offsets.items() if name not in config.drop_units}
    f1_text = ", ".join(f"{name} {value:.2f}" for name, value in choice.f1.items()) or "it has none"
    if not offsets:
        raise ModelError(f"{config.weights} has no action unit with an F1 of {config.least_unit_f1} or more: {f1_text}")
    if not config.quiet:
        left_out = [name for name in info.au_names if name not in offsets]
        lines = f"F1 of action units: {f1_text}\nleft out: {', '.join(left_out) or 'none'}"
        Console(soft_wrap=True, highlight=False).print(lines, markup=False)
    rows = torch.tensor([info.au_names.index(name) for name in offsets])
    kept = {name: value[rows] if ".au_head." in f".{name}" else value for name, value in tensors.items()}
    units = {"au_names": tuple(offsets), "au_offset": tuple(offsets.values())}
    return kept, info.model_copy(update=units)


def export_weights(config: ExportConfig) -> Path:
    """Write model.safetensors or encoder.safetensors; returns the path. Raises FemaeError."""
    source, info = weights_path(config.weights), described(read_info(config.weights), config)
    out = config.out or source.parent / f"{config.part}.safetensors"
    if out.resolve() == source.resolve():
        raise OutputError(f"{out} is the file being exported: choose another with --out")
    tensors = _mean([load_file(source), *(_weights_of(path) for path in config.mean_with)], source)
    if config.units_from:
        tensors, info = _with_units(tensors, info, config)
    if config.part == "encoder":
        if info.kind == "ensemble":
            raise ModelError(f"{source} is an ensemble of encoders: export one of its members")
        tensors = {name: value for name, value in tensors.items() if name.startswith("encoder.")}
        of_heads = dict.fromkeys(("outputs", "au_names", "scale", "offset", "thresholds", "au_offset"), ())
        info = info.model_copy(update={"kind": "encoder", **of_heads, "expression": None})
    if config.precision == "fp16":
        tensors = {name: value.half() if value.is_floating_point() else value for name, value in tensors.items()}
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        save_weights(out, tensors, info=info)
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error}") from error
    return out
