"""The face network: an encoder with a head for emotions and a head for action units (paper, sections 3.3, 3.4)."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import nn

from femae.config.model import ModelConfig
from femae.errors import ConfigError
from femae.models.vit import build_encoder

__all__ = ["Ensemble", "FaceModel", "FaceOutput"]


class FaceOutput(NamedTuple):
    """Output of a model for B faces."""

    logits: torch.Tensor  # float[B, O], in the order of `outputs`
    au_logits: torch.Tensor  # float[B, A], in the order of `au_names`; A may be 0
    features: torch.Tensor  # float[B, D], input of the heads


class FaceModel(nn.Module):
    """Encoder and linear heads. Input float[B, C, S, S], normalised.

    `outputs`: names of the first head's outputs, empty without that head: the six emotions, then what training adds to
    them. `au_names`: action units of the second head.
    """

    def __init__(self, config: ModelConfig, *, outputs: Sequence[str] = (), au_names: Sequence[str] = ()) -> None:
        super().__init__()
        self.config, self.outputs, self.au_names = config, tuple(outputs), tuple(au_names)
        self.encoder = build_encoder(config)
        self.head = _head(config.embed_dim, len(self.outputs))
        self._reads_blocks = config.au_from == "blocks" and bool(self.au_names)
        self.au_head = _head(config.embed_dim * (1 + config.depth * self._reads_blocks), len(self.au_names))

    def train(self, mode: bool = True) -> Self:
        """As in nn.Module, but frozen modules of the encoder stay in evaluation mode, with fixed batch statistics."""
        super().train(mode)
        for module in self.encoder.modules():
            weights = list(module.parameters())
            if weights and not any(weight.requires_grad for weight in weights):
                module.eval()
        return self

    def forward(self, pixels: torch.Tensor) -> FaceOutput:
        if self._reads_blocks:
            intermediates: Any = self.encoder.forward_intermediates(pixels, output_fmt="NLC")
            tokens, blocks = intermediates  # float[B, N, D], and a list of one per block
            features = self.encoder.forward_head(tokens)
            dim = features.shape[-1:]
            au_features = torch.cat([F.layer_norm(part, dim) for part in (*(b.mean(1) for b in blocks), features)], 1)
        else:
            features = au_features = self.encoder(pixels)
        empty = features.new_zeros(features.shape[0], 0)
        return FaceOutput(
            logits=self.head(features) if self.head is not None else empty,
            au_logits=self.au_head(au_features) if self.au_head is not None else empty,
            features=features,
        )


def _head(dim: int, num_outputs: int) -> nn.Linear | None:
    if num_outputs == 0:
        return None
    head = nn.Linear(dim, num_outputs)
    nn.init.trunc_normal_(head.weight, std=0.02)
    nn.init.zeros_(head.bias)
    return head


class Ensemble(nn.Module):
    """Several models as one: the logits of the mean of their probabilities (paper, section 4.4).

    `features` concatenates those of the members. Raises ConfigError when members differ in inputs or outputs.
    """

    def __init__(self, members: Sequence[FaceModel]) -> None:
        super().__init__()
        first = members[0]
        for member in members[1:]:
            for name in ("image_size", "in_chans", "mean", "std"):
                values = getattr(first.config, name), getattr(member.config, name)
                if values[0] != values[1]:
                    raise ConfigError(f"the models of an ensemble differ in {name}: {values[0]} and {values[1]}")
            if (member.outputs, member.au_names) != (first.outputs, first.au_names):
                raise ConfigError("the models of an ensemble differ in their outputs: train them by one recipe")
        self.members = nn.ModuleList(members)
        self.config, self.outputs, self.au_names = first.config, first.outputs, first.au_names

    def parts(self) -> list[FaceModel]:
        """The members."""
        return [member for member in self.members if isinstance(member, FaceModel)]

    def forward(self, pixels: torch.Tensor) -> FaceOutput:
        outputs = [member(pixels) for member in self.members]
        return FaceOutput(
            logits=_mean_logits([output.logits for output in outputs]),
            au_logits=_mean_logits([output.au_logits for output in outputs]),
            features=torch.cat([output.features for output in outputs], 1),
        )


def _mean_logits(logits: Sequence[torch.Tensor]) -> torch.Tensor:
    """Logits of the mean probabilities."""
    probs = torch.stack([torch.sigmoid(values.float()) for values in logits]).mean(0)
    return torch.logit(probs, eps=1e-6)
