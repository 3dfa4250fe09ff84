"""Masked autoencoder (paper, section 3.2; He et al. 2022): reconstructs a face from a quarter of its patches."""

from typing import NamedTuple

import torch
from timm.models.vision_transformer import Block
from torch import nn

from femae.config.model import DecoderConfig, ModelConfig
from femae.models.vit import build_encoder, cut_patches, encode_visible, sincos_position

__all__ = ["MaeOutput", "MaskedAutoencoder", "mae_loss", "random_masking"]


class MaeOutput(NamedTuple):
    """Loss and reconstruction of B pictures with N patches each."""

    loss: torch.Tensor  # float[], mean over the masked patches
    pred: torch.Tensor  # float[B, N, p*p*C], normalised per patch with norm_pix_loss
    mask: torch.Tensor  # float[B, N], 1: masked, 0: visible


def random_masking(noise: torch.Tensor, *, mask_ratio: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """noise float[B, N] -> (ids_keep i64[B, V], ids_restore i64[B, N], mask float[B, N]).

    The V = int(N * (1 - mask_ratio)) patches with the smallest noise stay visible. `ids_restore` brings [visible,
    masked] tokens back into order; mask is 1 where a patch is masked.
    """
    batch, num_patches = noise.shape
    visible = int(num_patches * (1 - mask_ratio))
    ids_shuffle = noise.argsort(1)
    ids_restore = ids_shuffle.argsort(1)
    mask = torch.ones(batch, num_patches, device=noise.device)
    mask[:, :visible] = 0
    return ids_shuffle[:, :visible], ids_restore, mask.gather(1, ids_restore)


def mae_loss(pred: torch.Tensor, target: torch.Tensor, mask: torch.Tensor, *, norm_pix_loss: bool) -> torch.Tensor:
    """Mean squared error float[] over masked patches; pred and target float[B, N, P], mask float[B, N].

    With norm_pix_loss each target patch is first normalised to mean 0 and (unbiased) variance 1.
    """
    if norm_pix_loss:
        mean, var = target.mean(-1, keepdim=True), target.var(-1, keepdim=True)
        target = (target - mean) / (var + 1e-6).sqrt()
    per_patch = (pred - target).square().mean(-1)  # [B, N]
    return (per_patch * mask).sum() / mask.sum()


class MaskedAutoencoder(nn.Module):
    """Encoder on the visible patches, small decoder on all. The names in the state dict are those of MAE."""

    def __init__(
        self, config: ModelConfig, *, decoder: DecoderConfig, mask_ratio: float = 0.75, norm_pix_loss: bool = True
    ) -> None:
        super().__init__()
        self.config, self.mask_ratio, self.norm_pix_loss = config, mask_ratio, norm_pix_loss
        self.encoder = build_encoder(config)
        self.encoder.fc_norm.requires_grad_(False)  # follows the pooling, which pretraining does not use
        self.norm = nn.LayerNorm(config.embed_dim, eps=1e-6)
        grid, dim = config.image_size // config.patch_size, decoder.embed_dim
        self.decoder_embed = nn.Linear(config.embed_dim, dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.decoder_pos_embed: torch.Tensor
        self.register_buffer("decoder_pos_embed", sincos_position(dim, grid=grid)[None])  # [1, N, dim]
        blocks = [Block(dim, decoder.num_heads, mlp_ratio=4.0, qkv_bias=True) for _ in range(decoder.depth)]
        self.decoder_blocks = nn.Sequential(*blocks)
        self.decoder_norm = nn.LayerNorm(dim, eps=1e-6)
        self.decoder_pred = nn.Linear(dim, config.patch_size**2 * config.in_chans)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, pixels: torch.Tensor, noise: torch.Tensor) -> MaeOutput:
        """Normalised pixels float[B, C, S, S] and noise float[B, N] -> loss, predicted patches and mask."""
        ids_keep, ids_restore, mask = random_masking(noise, mask_ratio=self.mask_ratio)
        latent = self.norm(encode_visible(self.encoder, pixels, ids_keep))
        pred = self.decode(latent, ids_restore)
        loss = mae_loss(pred.float(), self.patchify(pixels), mask, norm_pix_loss=self.norm_pix_loss)
        return MaeOutput(loss=loss, pred=pred, mask=mask)

    def decode(self, latent: torch.Tensor, ids_restore: torch.Tensor) -> torch.Tensor:
        """latent float[B, prefix + V, D], ids_restore i64[B, N] -> predicted patches float[B, N, p*p*C]."""
        tokens = self.decoder_embed(latent)
        prefix = self.encoder.num_prefix_tokens
        visible = tokens[:, prefix:]
        num_masked = ids_restore.shape[1] - visible.shape[1]
        masked = self.mask_token.to(visible.dtype).expand(len(visible), num_masked, -1)
        index = ids_restore[..., None].expand(-1, -1, visible.shape[2])
        full = torch.cat([visible, masked], 1).gather(1, index) + self.decoder_pos_embed  # [B, N, dim]
        full = torch.cat([tokens[:, :prefix], full], 1)
        out = self.decoder_pred(self.decoder_norm(self.decoder_blocks(full)))
        return out[:, prefix:]

    def patchify(self, pixels: torch.Tensor) -> torch.Tensor:
        """float[B, C, S, S] -> float[B, N, p*p*C]; within a patch row by row with channels last, as in MAE."""
        tiles = cut_patches(pixels.float(), self.config.patch_size)  # [B, N, C, p, p]
        return tiles.permute(0, 1, 3, 4, 2).flatten(2)

    def unpatchify(self, patches: torch.Tensor) -> torch.Tensor:
        """The inverse of patchify: float[B, N, p*p*C] -> float[B, C, S, S]."""
        batch, size, p = len(patches), self.config.image_size, self.config.patch_size
        grid = size // p
        tiles = patches.reshape(batch, grid, grid, p, p, -1)
        return tiles.permute(0, 5, 1, 3, 2, 4).reshape(batch, -1, size, size)
