"""Frozen teachers for distillation: earlier runs or an ensemble (paper, section 4.4; Hinton et al. 2015).

Teachers predict at each step, or once before training over several augmented views of every picture: a single
prediction depends on the exact position of the face, the mean over views much less. A student that learns this mean
beside the votes needs only one view at test time.
"""

from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.transforms.v2.functional import rgb_to_grayscale

from femae.config.model import ModelConfig
from femae.config.train import AugmentConfig, DistillConfig, RunConfig
from femae.errors import ConfigError
from femae.labels import EMOTIONS
from femae.models.face import Ensemble, FaceModel, FaceOutput
from femae.models.weights import load_model
from femae.training.loader.rng import RandomKeys, mix_seed
from femae.training.loader.sets import FaceSet
from femae.training.loop.task import normalise
from femae.training.tasks.augment import augment_batch
from femae.training.tasks.losses import distill_kl, distill_mse

__all__ = [
    "VIEWS",
    "Teacher",
    "distill_loss",
    "load_teacher",
    "predict_views",
    "read_soft_targets",
    "soft_target_loss",
    "soft_targets",
]

_AUTOCAST_DTYPES: Final = {"bf16-mixed": torch.bfloat16, "bf16-true": torch.bfloat16, "16-mixed": torch.float16}


class Teacher(nn.Module):
    """Several models as one frozen teacher; takes pictures in 0..1 and normalises them itself.

    `together` False: only single models are called (`draw`), so their outputs besides the emotions may differ.
    """

    def __init__(
        self, models: list[FaceModel | Ensemble], *, together: bool = True, precision: str, compiled: bool
    ) -> None:
        super().__init__()
        members: list[FaceModel] = []
        for model in models:
            members += model.parts() if isinstance(model, Ensemble) else [model]
        self.members = nn.ModuleList(members)
        self.requires_grad_(False)
        self.eval()
        self._configs = [member.config for member in members]
        self.config = members[0].config
        self._autocast_dtype = _AUTOCAST_DTYPES.get(precision)
        by_id = {id(member): torch.compile(member, dynamic=False) if compiled else member for member in members}
        self._networks: list[Any] = [by_id[id(member)] for member in members]
        self._ensemble: Any = Ensemble(members) if len(members) > 1 and together else self._networks[0]

    @torch.no_grad()
    def forward(self, pixels: torch.Tensor, *, draw: float | None = None) -> FaceOutput:
        """float[B, C, S, S] in 0..1 -> the output of the ensemble, or with `draw` (0..1) of one of the models.

        Pictures are converted to the size and colours of the model.
        """
        if next(self.parameters()).device != pixels.device:
            self.to(pixels.device)
        number = 0 if draw is None else int(draw * len(self._networks))
        network, config = self._ensemble if draw is None else self._networks[number], self._configs[number]
        dtype = self._autocast_dtype
        with nullcontext() if dtype is None else torch.autocast(pixels.device.type, dtype=dtype):
            return cast(FaceOutput, network(normalise(_match_input(pixels, config), config)))


def _match_input(pixels: torch.Tensor, config: ModelConfig) -> torch.Tensor:
    """The student's pictures float[B, C, S, S] in 0..1, in the size and colours of a teacher's input."""
    if config.in_chans < pixels.shape[1]:
        pixels = rgb_to_grayscale(pixels)
    size = config.image_size
    if size == pixels.shape[-1]:
        return pixels
    return F.interpolate(pixels, size=size, mode="bilinear", align_corners=False, antialias=size < pixels.shape[-1])


def load_teacher(config: DistillConfig, student: ModelConfig, run: RunConfig) -> Teacher | None:
    """The teacher of a recipe, or None. Raises ConfigError or ModelError when it does not suit the student."""
    if not config.teachers or config.weight == 0:
        return None
    loaded: dict[Path, FaceModel | Ensemble] = {}
    for path in config.teachers:
        if path in loaded:
            continue
        model, info = load_model(Path(path))
        if info.outputs[: len(EMOTIONS)] != EMOTIONS:
            raise ConfigError(f"distill.teachers: {path} has no emotion head; give a run of the stage emotion")
        if info.model.in_chans > student.in_chans:
            raise ConfigError(
                f"distill.teachers: {path} sees {info.model.color}, the student {student.color}: it cannot be shown "
                "colours that the student's pictures do not have"
            )
        loaded[path] = model
    models = [loaded[path] for path in config.teachers]
    teacher = Teacher(models, together=config.members == "all", precision=run.precision, compiled=run.compile)
    alike = len(teacher.members) == 1 and teacher.config.embed_dim == student.embed_dim
    if config.target == "features" and not alike:
        raise ConfigError(
            f"distill.target features needs one teacher as wide as the student (embed_dim {student.embed_dim}); set "
            "distill.target to probs or logits"
        )
    return teacher


def distill_loss(student: FaceOutput, teacher: FaceOutput, config: DistillConfig) -> torch.Tensor:
    """The distance float[] of the student's output from the teacher's, over the six emotions or the features."""
    count = len(EMOTIONS)
    if config.target == "features":
        return distill_mse(student.features, teacher.features)
    student_logits, teacher_logits = student.logits[:, :count].float(), teacher.logits[:, :count].float()
    if config.loss == "kl":
        return distill_kl(student_logits, teacher_logits, temperature=config.temperature)
    if config.target == "probs":
        return distill_mse(torch.sigmoid(student_logits), torch.sigmoid(teacher_logits))
    return distill_mse(student_logits, teacher_logits)


VIEWS: Final = AugmentConfig(  # small changes, like those of face boxes and lighting
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


def predict_views(
    teacher: Teacher, faces: FaceSet, *, model: ModelConfig, views: int, seed: int, device: torch.device | str = "cpu"
) -> Floats:
    """Mean logits f32[N, 6 or 7] of the teacher over `views` views of each face: the original, and augmented ones."""
    total: torch.Tensor | None = None
    for rows in faces.row_chunks(_BATCH):
        padded = np.resize(rows, _BATCH)  # a constant shape is compiled only once
        pictures = torch.from_numpy(faces.read(padded, model=model)).to(device)
        row_numbers = torch.from_numpy(padded).to(device)
        logits = teacher(pictures.float() / 255).logits.float()
        for view in range(1, views):
            draws = RandomKeys.of(mix_seed(seed, "views", view), row_numbers)
            logits = logits + teacher(augment_batch(pictures, VIEWS, draws=draws, size=model.image_size)).logits.float()
        if total is None:
            total = torch.empty(len(faces), logits.shape[1])
        total[torch.from_numpy(rows)] = logits[: len(rows)].cpu() / views
    assert total is not None
    return total.numpy()


def soft_targets(logits: Floats) -> Floats:
    """Logits f32[N, 6 or 7] -> f32[N, 6 or 13]: six sigmoids and, with an output for none, a softmax over seven."""
    six = 1 / (1 + np.exp(-logits[:, :_NUM]))
    if logits.shape[1] == _NUM:
        return six.astype(np.float32)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.concatenate([six, powers / powers.sum(axis=1, keepdims=True)], axis=1).astype(np.float32)


def soft_target_loss(logits: torch.Tensor, targets: torch.Tensor, *, softmax_weight: float) -> torch.Tensor:
    """Cross-entropy float[] with soft targets: binary over six emotions, plus softmax over seven classes.

    logits float[B, 6 or 7], targets float[B, 6 or 13] as soft_targets() returns them.
    """
    logits = logits.float()
    loss = F.binary_cross_entropy_with_logits(logits[:, :_NUM], targets[:, :_NUM])
    if softmax_weight > 0 and targets.shape[1] > _NUM:
        loss = loss - softmax_weight * (targets[:, _NUM:] * F.log_softmax(logits, 1)).sum(1).mean()
    return loss


def read_soft_targets(path: Path, *, count: int, width: int) -> Floats | None:
    """Logits f32[count, width] that the run has stored before; None if there are none.

    Raises ConfigError when the file is damaged or has another shape.
    """
    try:
        found = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read ({error}): delete it, and it will be made again") from error
    if found.shape != (count, width):
        raise ConfigError(
            f"{path} has the shape {found.shape}, expected {(count, width)}: delete it, and it will be made again"
        )
    return np.asarray(found, np.float32)
