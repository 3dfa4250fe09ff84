"""Loads encoder weights from other projects: checkpoints of MAE, MAE-Face, FMAE and timm, by mapping their keys.

All of them name a ViT's tensors as timm does (`patch_embed.proj`, `cls_token`, `pos_embed`, `blocks.0.attn.qkv`), some
with a prefix (`module.`, `model.`, `encoder.`, `backbone.`) and inside a dictionary (`model`, `state_dict`). Decoder
and classifier are left out. Position embeddings are resampled if the grid of patches differs.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from femae.errors import ModelError

__all__ = ["LoadReport", "load_encoder", "map_keys", "read_checkpoint", "resample_position"]

_WRAPPERS: Final = ("model", "state_dict", "module", "model_ema", "teacher")
_PREFIXES: Final = ("module.", "_orig_mod.", "model.", "encoder.", "backbone.", "vit.")
_LEFT_OUT: Final = ("decoder", "mask_token", "head.", "au_head.", "fc.", "classifier", "head_dist.", "norm_pix")


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadReport:
    """Which tensors of a checkpoint were loaded into an encoder."""

    loaded: tuple[str, ...]  # names in the encoder
    fresh: tuple[str, ...]  # names in the encoder, without a counterpart in the checkpoint
    left_out: tuple[str, ...]  # names in the checkpoint
    resampled: bool  # whether position embeddings had another grid


def read_checkpoint(path: Path, *, allow_pickle: bool = False) -> dict[str, torch.Tensor]:
    """Tensors by name of a .safetensors or, if pickles are allowed, a .pth/.pt file (weights_only; no code is run).

    Raises ModelError for missing and damaged files, and for pickles that were not allowed.
    """
    if not path.is_file():
        raise ModelError(f"there is no checkpoint {path}: check init.weights")
    if path.suffix == ".safetensors":
        try:
            return load_file(os.fspath(path))
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{path} cannot be read as safetensors ({error})") from error
    if not allow_pickle:
        raise ModelError(
            f"{path} is a pickle, which may contain code: set init.allow_pickle to read only its tensors, or "
            f"convert it "
            "to safetensors"
        )
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and pickle raise many types
        raise ModelError(f"{path} cannot be read by torch.load with weights_only ({error})") from error
    return _unwrap(loaded, path)


def _unwrap(loaded: Any, path: Path) -> dict[str, torch.Tensor]:
    while isinstance(loaded, Mapping):
        tensors = {str(name): value for name, value in loaded.items() if isinstance(value, torch.Tensor)}
        inner = [name for name in _WRAPPERS if isinstance(loaded.get(name), Mapping)]
        if len(tensors) > 3 or not inner:
            return tensors
        loaded = loaded[inner[0]]
    raise ModelError(f"{path} has no named tensors; expected a state dict, or one under {', '.join(_WRAPPERS)}")


def map_keys(tensors: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], list[str]]:
    """(encoder tensors by timm's names, names left out: decoder, heads) of a checkpoint's tensors."""
    mapped, left_out = {}, []
    for name, value in tensors.items():
        short = name
        while prefix := next((p for p in _PREFIXES if short.startswith(p)), None):
            short = short.removeprefix(prefix)
        if short.startswith(_LEFT_OUT):
            left_out.append(name)
        else:
            mapped[short] = value
    return mapped, left_out


def resample_position(pos_embed: torch.Tensor, *, prefix: int, old_prefix: int, grid: int) -> torch.Tensor:
    """Position embeddings [1, old_prefix + n*n, D] -> float[1, prefix + grid*grid, D], bicubic.

    New prefix tokens get zeros. Raises ModelError when the patches do not form a square grid.
    """
    num_patches = pos_embed.shape[1] - old_prefix
    side = round(num_patches**0.5)
    if side * side != num_patches:
        raise ModelError(f"position embeddings of {num_patches} patches do not form a square grid")
    old_tokens, patches = pos_embed[:, :old_prefix].float(), pos_embed[:, old_prefix:].float()
    if side != grid:
        square = patches.reshape(1, side, side, -1).permute(0, 3, 1, 2)  # [1, D, n, n]
        square = F.interpolate(square, size=(grid, grid), mode="bicubic", antialias=True, align_corners=False)
        patches = square.permute(0, 2, 3, 1).reshape(1, grid * grid, -1)
    full = patches.new_zeros(1, prefix, patches.shape[2])
    full[:, : min(prefix, old_prefix)] = old_tokens[:, :prefix]
    return torch.cat([full, patches], 1)


def load_encoder(encoder: VisionTransformer, tensors: Mapping[str, torch.Tensor], *, name: str) -> LoadReport:
    """Load a checkpoint's tensors into an encoder. Raises ModelError when shapes differ or blocks are missing.

    The final norm of models that pool by the class token is left out: the norm of this encoder follows the pooling.
    """
    mapped, left_out = map_keys(tensors)
    own = encoder.state_dict()
    grid = encoder.patch_embed.grid_size[0]
    resampled = False
    if "pos_embed" in mapped:
        old = mapped["pos_embed"]
        # with or without a class token, which shows in whether the number of positions is a square
        old_prefix = old.shape[1] - round(old.shape[1] ** 0.5) ** 2
        new = resample_position(old, prefix=encoder.num_prefix_tokens, old_prefix=old_prefix, grid=grid)
        resampled = old.shape[1] - old_prefix != grid * grid
        mapped["pos_embed"] = new
    _match_channels(mapped, encoder)
    fitting = {key: value for key, value in mapped.items() if key in own}
    mismatched = [
        f"{key} {tuple(v.shape)} for {tuple(own[key].shape)}" for key, v in fitting.items() if v.shape != own[key].shape
    ]
    if mismatched:
        raise ModelError(f"{name} differs in shape from the recipe's model: {', '.join(mismatched[:3])}")
    if sum(key.startswith("blocks.") for key in fitting) < sum(key.startswith("blocks.") for key in own):
        raise ModelError(f"{name} lacks blocks of the recipe's model: it has {len(fitting)} of its {len(own)} tensors")
    encoder.load_state_dict(fitting, strict=False)
    return LoadReport(
        loaded=tuple(sorted(fitting)),
        fresh=tuple(sorted(set(own) - set(fitting))),
        left_out=tuple(sorted(left_out + [key for key in mapped if key not in own])),
        resampled=resampled,
    )


def _match_channels(mapped: dict[str, torch.Tensor], encoder: VisionTransformer) -> None:
    """Adapt the kernel of the patch embedding in place: RGB is summed to gray, and its size is resampled."""
    projection = getattr(encoder.patch_embed, "proj", None)
    weight = mapped.get("patch_embed.proj.weight")
    if isinstance(projection, nn.Conv2d) and weight is not None and weight.ndim == 4:
        if projection.in_channels == 1 and weight.shape[1] == 3:
            weight = weight.sum(1, keepdim=True)
        size = projection.kernel_size
        if tuple(weight.shape[2:]) != size:
            weight = F.interpolate(weight.float(), size=size, mode="bicubic", antialias=True, align_corners=False)
        mapped["patch_embed.proj.weight"] = weight
