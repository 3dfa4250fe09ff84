"""Settings of the training stages: data, step, run, and the parts that all stages share (paper, section 4.2)."""

from pathlib import Path
from typing import Any, Literal, Self, get_args, get_origin

from pydantic import Field, model_validator

from femae.config.base import Config
from femae.config.model import DecoderConfig, ModelConfig
from femae.config.storage import FolderAddress

__all__ = [
    "AuConfig",
    "AugmentConfig",
    "DataConfig",
    "DistillConfig",
    "EmotionConfig",
    "InitConfig",
    "MixupConfig",
    "OptimConfig",
    "PretrainConfig",
    "RunConfig",
    "StageConfig",
]


class _Settings(Config):
    """Base of settings whose tuples also accept a single value, as written on a command line."""

    @model_validator(mode="before")
    @classmethod
    def _wrap_single_values(cls, settings: Any) -> Any:
        if not isinstance(settings, dict):
            return settings
        settings = dict(settings)
        for name, field in cls.model_fields.items():
            is_tuple = get_origin(field.annotation) is tuple and get_args(field.annotation)[-1] is Ellipsis
            if is_tuple and isinstance(settings.get(name), str | int | float | Path):
                settings[name] = (settings[name],)
        return settings


class DataConfig(_Settings):
    """The data to train and validate on: rows of folders of shards (`femae data prepare`)."""

    folders: tuple[FolderAddress, ...] = Field(
        (), description="folders of shards: paths, or addresses such as s3://bucket/shards (femae[remote])"
    )
    sources: tuple[str, ...] = Field((), description="only these data sets; default: all in the folders")
    train_splits: tuple[str, ...] = Field(("train", ""), description="train on rows of these splits")
    val_splits: tuple[str, ...] = Field(("val",), description="validate on rows of these splits")
    val_sources: tuple[str, ...] = Field((), description="validate only on these data sets; default: on all")
    fold: int | None = Field(None, ge=0, description="validate on this fold of folds.parquet, train on the others")
    folded_only: bool = Field(
        False, description="never train on rows that folds.parquet holds out because they belong with test pictures"
    )
    pseudo_aus: tuple[Path, ...] = Field((), description="tables of `femae data pseudo-au`, in the order of folders")
    source_weights: dict[str, float] = Field({}, description="how often a data set's rows are drawn; default 1 each")
    balance: float = Field(
        0.0, ge=0, le=1, description="rows are drawn in proportion to count ** -balance of what they show"
    )
    loader: Literal["auto", "memory", "stream"] = Field(
        "auto", description="memory: all pictures in memory; stream: read from the shards; auto: memory under 4 GB"
    )
    workers: int = Field(2, ge=0, description="reading threads of the stream loader")
    decode: Literal["host", "device"] = Field(
        "host",
        description="where the stream loader decodes JPEG; device: by nvJPEG, pixels within 3 of 255 levels",
    )
    limit: int | None = Field(
        None, ge=1, description="use at most this many rows for training and for validation, for trials"
    )


class AugmentConfig(Config):
    """Random changes of each training picture (paper, section 4.2). Scale is of the side: below 1 zooms in."""

    flip: float = Field(0.5, ge=0, le=1, description="share of pictures mirrored")
    rotation_deg: float = Field(15.0, ge=0)
    scale_min: float = Field(0.8, gt=0, description="smallest side of the crop, relative to the picture's")
    scale_max: float = Field(1.15, gt=0)
    shift: float = Field(0.12, ge=0, description="largest shift, in half sides of the picture")
    stretch: float = Field(0.08, ge=0, description="largest change of the aspect ratio, as a natural logarithm")
    soften: float = Field(
        0.2, ge=0, le=1, description="share of pictures reduced to a half or third of their size and enlarged again"
    )
    sharpen: float = Field(0, ge=0, le=1, description="share of pictures sharpened, as cameras and players do")
    gamma: float = Field(0.4, ge=0, description="log")
    contrast: float = Field(0.35, ge=0, description="log")
    brightness: float = Field(0.12, ge=0)
    saturation: float = Field(0.2, ge=0, description="of RGB pictures, as torchvision's ColorJitter")
    hue: float = Field(0.0, ge=0, le=0.5, description="as saturation")
    erase: float = Field(0.3, ge=0, le=1, description="share of pictures with a covered rectangle")
    noise: float = Field(0.04, ge=0, description="largest standard deviation, of 0..1")


class OptimConfig(Config):
    """The optimizer and its schedule."""

    kind: Literal["adamw", "muon"] = Field(
        "adamw", description="muon: Muon for the encoder's matrices and kernels, AdamW for the rest"
    )
    lr: float = Field(1e-3, gt=0, description="peak of the schedule")
    lr_batch: int | None = Field(
        None, ge=1, description="batch size that lr is meant for: lr is scaled in proportion to run.batch_size"
    )
    weight_decay: float = Field(0.05, ge=0)
    betas: tuple[float, float] = (0.9, 0.98)
    schedule: Literal["cosine", "restarts", "constant"] = Field(
        "cosine", description="cosine: once, to eta_min; restarts: warm restarts (Loshchilov and Hutter 2016)"
    )
    warmup_epochs: float = Field(2.0, ge=0, description="linear from 0")
    restart_epochs: float = Field(5.0, gt=0, description="epochs to the first restart")
    restart_mult: int = Field(1, ge=1, description="each period is this many times as long as the one before")
    eta_min: float = Field(1e-8, ge=0, description="lowest learning rate of the cosine")
    layer_decay: float = Field(1.0, gt=0, le=1, description="learning rate of a block over that of the one above it")
    clip_norm: float | None = Field(2.0, gt=0, description="largest norm of the gradient")


class InitConfig(Config):
    """Where the encoder's weights come from, and which of them are trained."""

    weights: Path | None = Field(
        None,
        description="a run's folder or model.safetensors, femae:encoder-mae or femae:encoder-au (those that ship), or "
        "a checkpoint of MAE, MAE-Face, FMAE or timm",
    )
    allow_pickle: bool = Field(False, description="read .pth files too (weights only, no code is run)")
    head: Literal["new", "keep"] = Field(
        "new",
        description="keep: also take over the emotion head of init.weights (stage au: with train head, so that its "
        "output stays the same)",
    )
    train: Literal["all", "last_block", "head"] = Field("all", description="what is trained; the rest is frozen")


class RunConfig(Config):
    """Length of a run, its checkpoints and log, and the machine."""

    epochs: int = Field(40, ge=1)
    batch_size: int = Field(128, ge=1, description="pictures per step, over all processes and accumulation")
    accumulate: int = Field(1, ge=1, description="number of parts into which a process splits its share of a step")
    device_batch: int | None = Field(
        None, ge=1, description="pictures at once on a device: accumulate then follows for any number of devices"
    )
    ema_decay: float = Field(0.999, ge=0, lt=1, description="decay of the moving average of the weights; 0: no average")
    patience: int | None = Field(10, ge=1, description="stop after this many epochs without a better validation")
    validate_every: int = Field(1, ge=1, description="epochs")
    seed: int = 0
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "bf16-true"] = "bf16-mixed"
    compile: bool = Field(False, description="torch.compile the network")
    grad_checkpointing: bool = Field(False, description="recompute activations to save memory")
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    strategy: Literal["auto", "ddp", "fsdp"] = Field("auto", description="auto: ddp under torchrun")
    threads: int | None = Field(
        None, ge=1, description="threads of the CPU; default: torch's own choice, within the cores that may be used"
    )
    checkpoint_minutes: float = Field(3.0, ge=0, description="minutes between resumable states within an epoch")
    checkpoint_steps: int | None = Field(None, ge=1, description="also save a state after this many steps")
    log_every: int = Field(20, ge=1, description="steps between lines of log.jsonl")
    explode: float = Field(20.0, gt=1, description="stop when the loss is this many times that of the first steps")
    tensorboard: bool = True
    mlflow: str = Field("", description="tracking address of an MLflow server or folder; empty: none")

    def pieces(self, num_devices: int) -> int:
        """The number of parts into which each of `num_devices` devices splits its share of a step."""
        if self.device_batch is None:
            return self.accumulate
        return -(-self.batch_size // (num_devices * self.device_batch))

    @model_validator(mode="after")
    def _check_accumulation(self) -> Self:
        if self.device_batch is not None and self.accumulate > 1:
            raise ValueError("accumulate follows from device_batch: set one of the two")
        return self


class StageConfig(_Settings):
    """Settings that all stages share."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    init: InitConfig = InitConfig()
    augment: AugmentConfig = AugmentConfig()
    optim: OptimConfig = OptimConfig()
    run: RunConfig = RunConfig()

    @property
    def scaled_optim(self) -> OptimConfig:
        """The optimizer's settings with lr scaled by run.batch_size / optim.lr_batch."""
        if self.optim.lr_batch is None:
            return self.optim
        lr = self.optim.lr * self.run.batch_size / self.optim.lr_batch
        return self.optim.model_copy(update={"lr": lr, "lr_batch": None})

    @model_validator(mode="after")
    def _check_muon(self) -> Self:
        if self.optim.kind == "muon" and self.run.strategy == "fsdp":
            raise ValueError("optim.kind muon needs whole matrices, which fsdp splits: set run.strategy to ddp")
        if self.optim.kind == "muon" and self.run.precision == "16-mixed":
            raise ValueError(
                "optim.kind muon does not support scaled gradients: set run.precision to bf16-mixed or 32-true"
            )
        return self


class PretrainConfig(StageConfig):
    """Masked-autoencoder pretraining on faces without labels (paper, section 3.2)."""

    stage: Literal["pretrain"] = "pretrain"
    decoder: DecoderConfig = DecoderConfig()
    mask_ratio: float = Field(0.75, gt=0, lt=1)
    norm_pix_loss: bool = Field(True, description="each patch's pixels are normalised before they are compared")


class AuConfig(StageConfig):
    """Detection of facial action units (paper, section 3.3)."""

    stage: Literal["au"] = "au"
    aus: tuple[str, ...] = Field((), description="AU01 AU02 ...; default: each that the training rows know")
    class_weights: Literal["n_max", "none", "pos_weight"] = Field("n_max", description="W_j of eq. (1)")
    max_weight: float | None = Field(None, ge=1, description="largest W_j")

    @model_validator(mode="after")
    def _check_kept_head(self) -> "AuConfig":
        if self.init.head == "keep" and (self.init.weights is None or self.init.train != "head"):
            raise ValueError(
                "in the stage au, init.head keep adds action units to the emotion model of init.weights and leaves "
                "its emotions unchanged: name init.weights and set init.train to head"
            )
        return self


class MixupConfig(_Settings):
    """Mixup of pictures and soft labels (Zhang et al. 2018)."""

    alpha: float = Field(0.0, ge=0, description="of Beta(alpha, alpha); 0: no mixup")
    compound_share: tuple[float, ...] = Field(
        (0.0,),
        description="share of pairs drawn so that they make a compound; several values follow one another "
        "in equal parts of the run",
    )
    cutmix: float = Field(0.0, ge=0, le=1, description="share of batches that swap half pictures instead")


class DistillConfig(_Settings):
    """Learning from frozen teachers: earlier runs, or an ensemble."""

    teachers: tuple[Path, ...] = Field(
        (), description="runs' folders or model.safetensors; several are averaged, one named twice counts twice"
    )
    members: Literal["all", "one"] = Field(
        "all",
        description="one: each step asks one teacher, drawn at random: on average the gradient of all, at the cost "
        "of one",
    )
    weight: float = Field(1.0, ge=0)
    loss: Literal["mse", "kl"] = Field("mse", description="mse of the outputs; kl of the probabilities")
    target: Literal["probs", "logits", "features"] = Field("probs", description="what mse compares")
    temperature: float = Field(1.0, gt=0, description="of kl")
    views: int = Field(
        0,
        ge=0,
        description="0: the teachers see each augmented picture during training; N: they are asked once, before "
        "training, about N views of each picture, and the mean is learned like votes (loss kl, target "
        "probs)",
    )


class EmotionConfig(StageConfig):
    """Multi-label recognition of the six basic emotions (paper, section 3.4)."""

    stage: Literal["emotion"] = "emotion"
    class_weights: Literal["n_max", "none", "pos_weight"] = Field("n_max", description="W_j of eq. (1)")
    max_weight: float | None = Field(None, ge=1, description="largest W_j")
    softmax_weight: float = Field(
        0.0, ge=0, description="weight of a cross-entropy over the six and 'none of them', in addition to eq. (1)"
    )
    mixup: MixupConfig = MixupConfig()
    distill: DistillConfig = DistillConfig()
    au_head: Literal["none", "joint", "frozen"] = Field(
        "none", description="keep the AU head of init.weights, trained (joint) or frozen: predict then adds AU columns"
    )
    au_weight: float = Field(1.0, ge=0, description="weight of the AU loss with au_head joint")

    @model_validator(mode="after")
    def _check_distillation(self) -> "EmotionConfig":
        if self.distill.loss == "kl" and self.distill.target == "features":
            raise ValueError("distill.loss kl compares probabilities: set distill.target to probs, or take mse")
        allows_views = self.distill.loss == "kl" and self.distill.target == "probs" and self.distill.members == "all"
        if self.distill.views and not (allows_views and self.distill.temperature == 1):
            raise ValueError(
                "distill.views asks all teachers for probabilities: set distill.loss to kl, distill.target to probs, "
                "distill.members to all and distill.temperature to 1"
            )
        return self
