"""Masked-autoencoder pretraining (paper, section 3.2)."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from PIL import Image

from femae.config.train import PretrainConfig
from femae.errors import DataError
from femae.models.mae import MaskedAutoencoder
from femae.models.weights import WeightsInfo, save_weights
from femae.training.loader.loader import Batch
from femae.training.loader.rng import DrawPurpose, RandomKeys, mix_seed
from femae.training.loader.sets import load_sets
from femae.training.loop.cost import example_inputs
from femae.training.loop.task import Evaluation, StepOutput, normalise
from femae.training.tasks.augment import make_augment
from femae.training.tasks.init_weights import freeze_parameters, init_encoder

__all__ = ["PretrainTask"]

_NUM_SHOWN: Final = 24  # faces on the sheet of reconstructions


class PretrainTask:
    """Trains on all faces of the training splits; each validation face has the same mask in every validation."""

    def __init__(self, config: PretrainConfig) -> None:
        self.config = config
        self.train_set, self.val_set = load_sets(config.data, config.model, labels=False)
        if not len(self.val_set):
            raise DataError(
                "there are no rows to validate on: set data.val_splits to splits that the folders have, or data.fold"
            )
        self.model = MaskedAutoencoder(
            config.model, decoder=config.decoder, mask_ratio=config.mask_ratio, norm_pix_loss=config.norm_pix_loss
        )
        self.start = init_encoder(self.model.encoder, config.init)
        freeze_parameters(self.model, config.init)
        self._augment = make_augment(config.augment, size=config.model.image_size, compiled=config.run.compile)

    def balance_targets(self) -> npt.NDArray[np.float32]:
        return np.zeros((len(self.train_set), 0), np.float32)

    def loss(self, forward: Callable[..., Any], batch: Batch, *, draws: RandomKeys, progress: float) -> StepOutput:
        pixels = self._augment(batch.pixels, draws)
        noise = draws.uniform(DrawPurpose.MASK, self.config.model.num_patches)
        return StepOutput(loss=forward(normalise(pixels, self.config.model), noise).loss)

    def example(self, count: int) -> tuple[torch.Tensor, ...]:
        return example_inputs(self.config.model, count=count, masked=True, device="cpu")

    def collect(self, forward: Callable[..., Any], batch: Batch, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        model = self.model
        pixels = normalise(batch.pixels.float() / 255, self.config.model)
        output = forward(pixels, self._noise(rows))
        target = model.patchify(pixels)
        if model.norm_pix_loss:
            mean, var = target.mean(-1, keepdim=True), target.var(-1, keepdim=True)
            target = (target - mean) / (var + 1e-6).sqrt()
        hidden = output.mask > 0
        errors = ((output.pred.float() - target).square().mean(-1) * hidden).sum(1) / hidden.sum(1)
        return {"loss": errors.float()}

    def _noise(self, rows: torch.Tensor) -> torch.Tensor:
        """Mask noise float[B, N] of validation rows, the same in every validation."""
        return RandomKeys.of(mix_seed("validation"), rows).uniform(DrawPurpose.MASK, self.config.model.num_patches)

    def evaluate(self, collected: Mapping[str, npt.NDArray[Any]]) -> Evaluation:
        loss = float(collected["loss"].mean())
        return Evaluation(score=-loss, log={"loss": loss}, tables={"reconstructions.parquet": self._reconstructions()})

    @torch.inference_mode()
    def _reconstructions(self) -> pa.Table:
        """Table with PNG pictures of some validation faces: masked, reconstructed (with visible patches), original."""
        rows = np.unique(np.linspace(0, len(self.val_set) - 1, _NUM_SHOWN).round().astype(np.int64))
        model, shape = self.model, self.config.model
        device = next(model.parameters()).device
        pictures = torch.from_numpy(self.val_set.read(rows, model=shape)).to(device)
        pixels = normalise(pictures.float() / 255, shape)
        output = model(pixels, self._noise(torch.from_numpy(rows).to(device)))
        target, pred = model.patchify(pixels), output.pred.float()
        if model.norm_pix_loss:  # the decoder predicts normalised patches: use the originals' mean and deviation
            pred = pred * (target.var(-1, keepdim=True) + 1e-6).sqrt() + target.mean(-1, keepdim=True)
        hidden = output.mask[..., None] > 0
        sheets = {
            "masked": torch.where(hidden, torch.zeros_like(target), target),
            "reconstructed": torch.where(hidden, pred, target),
            "original": target,
        }
        columns: dict[str, Any] = {"key": self.val_set.select(rows).strings("key")}
        for name, patches in sheets.items():
            columns[name] = [_png(picture) for picture in self._to_u8(model.unpatchify(patches))]
        return pa.table(columns)

    def _to_u8(self, pixels: torch.Tensor) -> npt.NDArray[np.uint8]:
        """Normalised float[B, C, S, S] -> u8[B, S, S, C]."""
        shape = self.config.model
        mean = pixels.new_tensor(shape.channel_values(shape.mean))[:, None, None]
        std = pixels.new_tensor(shape.channel_values(shape.std))[:, None, None]
        levels = ((pixels * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
        return levels.permute(0, 2, 3, 1).cpu().numpy()

    def save(self, path: Path, tensors: dict[str, torch.Tensor]) -> None:
        info = WeightsInfo(kind="encoder", name="femae-mae", members=(self.config.model,))
        save_weights(path, tensors, info=info)


def _png(picture: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture.squeeze(-1) if picture.shape[2] == 1 else picture).save(buffer, "PNG")
    return buffer.getvalue()
