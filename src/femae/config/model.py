"""Settings stored in a model file: its network, its input pictures, and the parameters of its expression rule."""

from typing import Literal

from pydantic import Field, model_validator

from femae.config.base import Config

__all__ = ["DecoderConfig", "ExpressionParams", "ModelConfig"]


class ModelConfig(Config):
    """A ViT on timm; the defaults are those of the small open recipes (2.5 M parameters, 36 tokens)."""

    image_size: int = Field(48, gt=0, description="side of the picture in pixels")
    patch_size: int = Field(8, gt=0, description="side of a patch in pixels")
    in_chans: Literal[1, 3] = Field(1, description="1: gray (ITU-R 601 luma), 3: RGB")
    mean: tuple[float, ...] = Field((0.5,), description="of pixel values in 0..1: one number, or one per channel")
    std: tuple[float, ...] = Field((0.25,), description="as mean")
    embed_dim: int = Field(192, gt=0)
    depth: int = Field(6, ge=1)
    num_heads: int = Field(3, ge=1)
    mlp_ratio: float = Field(3.0, gt=0)
    drop_path: float = Field(0.05, ge=0, lt=1, description="stochastic depth of the last block; grows linearly from 0")
    stem: Literal["conv", "patch"] = Field("conv", description="conv: three strided steps; patch: one linear layer")
    stem_width: int = Field(32, ge=1, description="channels of the first step of the conv stem")
    class_token: bool = Field(False, description="as in MAE's ViT; the head reads the mean over the patch tokens")
    reg_tokens: int = Field(0, ge=0, description="register tokens")
    layer_scale: float | None = Field(None, gt=0, description="initial value of layer scale; none: no layer scale")
    au_from: Literal["last", "blocks"] = Field(
        "last",
        description="what the AU head reads; last: the same as the emotion head; blocks: also the mean token of "
        "every block, for an encoder trained on emotions",
    )

    @model_validator(mode="after")
    def _check_shapes(self) -> "ModelConfig":
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}")
        if self.embed_dim % self.num_heads:
            raise ValueError(f"embed_dim {self.embed_dim} is not a multiple of num_heads {self.num_heads}")
        if self.stem == "conv" and self.patch_size != 8:
            raise ValueError(f"the conv stem makes patches of 8 pixels, not {self.patch_size}: set stem to patch")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, self.in_chans):
                raise ValueError(f"{name} has {len(values)} values; expected 1 or {self.in_chans}")
        return self

    @property
    def num_patches(self) -> int:
        """Number of patches of a picture."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def color(self) -> Literal["gray", "rgb"]:
        """Colour mode of the input."""
        return "gray" if self.in_chans == 1 else "rgb"

    def channel_values(self, values: tuple[float, ...]) -> tuple[float, ...]:
        """`mean` or `std` expanded to one value per channel."""
        return values if len(values) == self.in_chans else values * self.in_chans


class DecoderConfig(Config):
    """The decoder of MAE pretraining (He et al. 2022 use 8 blocks of width 512 for ViT-B)."""

    embed_dim: int = Field(96, gt=0)
    depth: int = Field(2, ge=1)
    num_heads: int = Field(3, ge=1)


class ExpressionParams(Config):
    """Parameters of the rule for the column `expression` (compound.expression).

    The defaults are rounded values of a network trained on the vote shares of FER+; they suit six probabilities that
    estimate shares of annotators' votes.
    """

    none_bias: float = -1.0
    none_slope: float = Field(0.9, ge=0)
    none_weight: float = Field(0.0, ge=0)  # of the model's own output for none of the six
    stronger: float = Field(0.35, ge=0)
    weaker: float = Field(1.1, ge=0)
    compound_bias: float = 0.7
    scale: float = Field(1.7, gt=0)
    compound_gain: float = Field(2.0, gt=0)  # of compounds against none and single emotions
    num_faces: int = Field(0, ge=0)  # used to fit them; 0: the defaults, whose probabilities are rough

    @property
    def fitted(self) -> bool:
        """Whether the parameters were fitted to faces."""
        return self.num_faces > 0
