"""What teachers say of a picture on the whole: the mean over slightly changed views of it, asked once before training.

One answer depends on where exactly the face lies in the frame; the mean of many depends on it much less. Learned beside
the votes it gives a student that needs one look for what took its teacher many.
"""

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from femae.config.model import ModelConfig
from femae.config.train import AugmentConfig
from femae.errors import ConfigError
from femae.labels import EMOTIONS
from femae.training.loader.rng import Draws, mix_seed
from femae.training.loader.sets import FaceSet
from femae.training.tasks.augment import augment_batch
from femae.training.tasks.teachers import Teacher

__all__ = ["VIEWS", "ask_views", "read_taught", "taught_loss", "taught_shares"]

VIEWS: Final = AugmentConfig(  # as a detector's boxes and a room's light differ, no more
    rotation_deg=12,
    scale_min=0.8,
    scale_max=1.12,
    shift=0.12,
    stretch=0.05,
    soften=0,
    gamma=0.1,
    contrast=0.1,
    brightness=0.03,
    erase=0,
    noise=0,
)
_BATCH: Final = 256
_NUM: Final = len(EMOTIONS)
Floats = npt.NDArray[np.float32]


def ask_views(
    teacher: Teacher, faces: FaceSet, *, model: ModelConfig, views: int, seed: int, device: torch.device | str = "cpu"
) -> Floats:
    """Mean logits f32[N, 6 or 7] of the teacher over `views` views of each face: the picture as it is, and others."""
    total: torch.Tensor | None = None
    for rows in faces.row_chunks(_BATCH):
        padded = np.resize(rows, _BATCH)  # one shape, compiled once
        pictures = torch.from_numpy(faces.read(padded, model=model)).to(device)
        places = torch.from_numpy(padded).to(device)
        said = teacher(pictures.float() / 255).logits.float()
        for view in range(1, views):
            draws = Draws.of(mix_seed(seed, "views", view), places)
            said = said + teacher(augment_batch(pictures, VIEWS, draws=draws, size=model.image_size)).logits.float()
        if total is None:
            total = torch.empty(len(faces), said.shape[1])
        total[torch.from_numpy(rows)] = said[: len(rows)].cpu() / views
    assert total is not None
    return total.numpy()


def taught_shares(logits: Floats) -> Floats:
    """Logits f32[N, 6 or 7] -> f32[N, 6 or 13]: six probabilities and, with an output for none, seven shares."""
    six = 1 / (1 + np.exp(-logits[:, :_NUM]))
    if logits.shape[1] == _NUM:
        return six.astype(np.float32)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.concatenate([six, powers / powers.sum(axis=1, keepdims=True)], axis=1).astype(np.float32)


def taught_loss(logits: torch.Tensor, taught: torch.Tensor, *, softmax_weight: float) -> torch.Tensor:
    """Cross-entropies with what was taught, as with the votes: eq. (1) over six, and the softmax over seven.

    logits float[B, 6 or 7], taught float[B, 6 or 13] of taught_shares.
    """
    logits = logits.float()
    loss = F.binary_cross_entropy_with_logits(logits[:, :_NUM], taught[:, :_NUM])
    if softmax_weight > 0 and taught.shape[1] > _NUM:
        loss = loss - softmax_weight * (taught[:, _NUM:] * F.log_softmax(logits, 1)).sum(1).mean()
    return loss


def read_taught(path: Path, *, count: int, width: int) -> Floats | None:
    """What an earlier start of the same run has asked; None where there is nothing. Raises ConfigError."""
    try:
        found = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read ({error}): remove it, it is then made anew") from error
    if found.shape != (count, width):
        raise ConfigError(f"{path} has the shape {found.shape}, expected {(count, width)}: remove it")
    return np.asarray(found, np.float32)
