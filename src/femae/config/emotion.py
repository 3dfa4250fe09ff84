"""Settings of the emotion stage (paper, section 4.2)."""

from pathlib import Path

from pydantic import Field

from femae.config.base import Config
from femae.config.model import ModelConfig

__all__ = ["AugmentConfig", "EmotionConfig", "OptimConfig"]


class AugmentConfig(Config):
    """Ranges of the random changes; scale < 1 zooms in. Shift is in half pictures, gamma and contrast in log units."""

    rotation_deg: float = 15.0
    scale_min: float = 0.8
    scale_max: float = 1.15
    shift: float = 0.12
    stretch: float = 0.08
    soften: float = 0.2
    gamma: float = 0.4
    contrast: float = 0.35
    brightness: float = 0.12
    erase: float = 0.3
    noise: float = 0.04


class OptimConfig(Config):
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    warmup_epochs: float = 2.0
    clip_norm: float = 2.0


class EmotionConfig(Config):
    """One run of the emotion stage on FER+."""

    data: Path  # folder of FER+ with labels.csv and the atlases
    run: Path  # folder of the run: checkpoints, log.jsonl, predictions
    model: ModelConfig = ModelConfig()
    optim: OptimConfig = OptimConfig()
    augment: AugmentConfig = AugmentConfig()
    epochs: int = Field(default=40, gt=0)
    batch_size: int = Field(default=128, gt=1)
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    mixup_alpha: float = Field(default=0.2, ge=0)
    balance: float = Field(
        default=0.5, ge=0, le=1
    )  # a picture is drawn in proportion to its classes' count ** -balance
    softmax_weight: float = Field(default=1.0, ge=0)  # of the cross-entropy over vote shares, beside eq. (1)
    seed: int = 0
    num_threads: int = 2
    compile: bool = True
    limit: int | None = None  # only the first pictures of each split, for trials
