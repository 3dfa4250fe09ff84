"""Loads the initial weights of a network and freezes those that are not trained (settings init.*)."""

from pathlib import Path
from typing import Any

from torch import nn

from femae.config.train import InitConfig
from femae.errors import ModelError
from femae.models.keymap import LoadReport, load_encoder, read_checkpoint
from femae.models.weights import WEIGHTS_NAME, load_model
from femae.shipped import shipped

__all__ = ["freeze_parameters", "init_au_head", "init_emotion_head", "init_encoder"]


def _weights_file(path: Path) -> Path:
    path = shipped(path, suffixes=(".safetensors",))
    file = path / WEIGHTS_NAME if path.is_dir() else path
    if not file.is_file():
        raise ModelError(f"init.weights: there are no weights at {path}")
    return file


def init_encoder(encoder: Any, init: InitConfig) -> LoadReport | None:
    """Load init.weights into an encoder; None without init.weights. Raises ModelError when they do not fit."""
    if init.weights is None:
        return None
    file = _weights_file(init.weights)
    tensors = read_checkpoint(file, allow_pickle=init.allow_pickle)
    if file.suffix == ".safetensors" and any(name.startswith("members.") for name in tensors):
        raise ModelError(f"{file} is an ensemble: start from one of its members, or name it in distill.teachers")
    return load_encoder(encoder, tensors, name=str(file))


def init_emotion_head(head: nn.Linear, *, outputs: tuple[str, ...], init: InitConfig) -> None:
    """Copy the emotion head of init.weights. Raises ModelError when it has none or other outputs."""
    if init.weights is None:
        raise ModelError("init.head keep needs init.weights: the run whose head is kept")
    model, info = load_model(_weights_file(init.weights))
    source: Any = getattr(model, "head", None)
    if info.outputs != outputs or source is None:
        raise ModelError(
            f"{init.weights} has the outputs {', '.join(info.outputs) or '(no emotions)'}, this run "
            f"{', '.join(outputs)}: "
            "set init.head to new, or softmax_weight as that run had it"
        )
    head.load_state_dict(source.state_dict())


def init_au_head(head: nn.Linear, *, au_names: tuple[str, ...], init: InitConfig) -> None:
    """Copy the AU head of init.weights. Raises ModelError when it has none or other units."""
    assert init.weights is not None
    model, info = load_model(init.weights)
    source: Any = getattr(model, "au_head", None)
    if info.au_names != au_names or source is None:
        raise ModelError(
            f"{init.weights} has the action units {', '.join(info.au_names) or '(none)'}; au_head needs a run of the "
            "stage au"
        )
    head.load_state_dict(source.state_dict())


def freeze_parameters(model: nn.Module, init: InitConfig) -> None:
    """Freeze the parameters outside init.train: the encoder, or all of it but its last block and norms."""
    if init.train == "all":
        return
    encoder: Any = model.encoder
    for param in encoder.parameters():
        param.requires_grad = False
    if init.train == "last_block":
        for part in (encoder.blocks[-1], encoder.norm, encoder.fc_norm):
            for param in part.parameters():
                param.requires_grad = True
