"""Weights as they are passed on: with their name, terms and calibration inside; or the encoder alone, to train from."""

from pathlib import Path

from safetensors.torch import load_file

from femae.config.export import ExportConfig
from femae.errors import ModelError, OutputError
from femae.export.balance import balanced, tempered
from femae.models.weights import WeightsInfo, read_info, save_weights, weights_path

__all__ = ["described", "export_weights"]


def described(info: WeightsInfo, config: ExportConfig) -> WeightsInfo:
    """The metadata with the words, the balance and the temperature of a command line."""
    words = {key: getattr(config, key) for key in ("name", "version", "description", "terms")}
    info = info.model_copy(update={key: value for key, value in words.items() if value is not None})
    if config.balance:
        info = balanced(info, class_counts=config.class_counts, balance=config.balance)
    return tempered(info, temperature=config.temperature)


def export_weights(config: ExportConfig) -> Path:
    """Write a model.safetensors, or encoder.safetensors, for others; returns its path. Raises FemaeError."""
    source, info = weights_path(config.weights), described(read_info(config.weights), config)
    out = config.out or source.parent / f"{config.part}.safetensors"
    if out.resolve() == source.resolve():
        raise OutputError(f"{out} is the file that is exported: name another with --out")
    tensors = load_file(source)
    if config.part == "encoder":
        if info.kind == "ensemble":
            raise ModelError(f"{source} is an ensemble of encoders: export one of its members")
        tensors = {name: value for name, value in tensors.items() if name.startswith("encoder.")}
        info = info.model_copy(
            update={"kind": "encoder", "outputs": (), "au_names": (), "scale": (), "offset": (), "thresholds": ()}
        )
    if config.precision == "fp16":
        tensors = {name: value.half() if value.is_floating_point() else value for name, value in tensors.items()}
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        save_weights(out, tensors, info=info)
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error}") from error
    return out
