"""Shape of the network."""

from pydantic import Field

from femae.config.base import Config

__all__ = ["ModelConfig"]


class ModelConfig(Config):
    """ViT with a convolutional stem; the defaults are the shipped model's (2.6 M parameters, 36 tokens)."""

    image_size: int = Field(default=48, gt=0)  # pixels a side
    patch_size: int = 8
    in_chans: int = Field(default=1, ge=1, le=3)  # 1: gray (ITU-R 601 luma), 3: RGB
    embed_dim: int = 192
    depth: int = 6
    num_heads: int = 3
    mlp_ratio: float = 3.0
    drop_path: float = Field(default=0.05, ge=0, lt=1)
    stem_width: int = 32
