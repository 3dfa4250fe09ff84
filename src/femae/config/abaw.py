"""Settings of `femae abaw ...`: challenge files from predictions, their check and their score."""

from pathlib import Path
from typing import Annotated, Literal

import tyro
from pydantic import Field

from femae.config.base import Config
from femae.config.options import DebugOption, QuietOption, RuleOption, WeightsOption
from femae.config.predict import DetectConfig

__all__ = ["AbawCommand", "AuConfig", "CeConfig", "ExprConfig", "ScoreConfig", "ValidateConfig", "WriteConfig"]

_TrackOption = Literal["ce", "expr", "au"] | None
_TRACK = "track of the file; default: read from its header"


class WriteConfig(Config):
    """Settings that all tracks share: which frames, which face, and the label of frames without one."""

    inputs: Annotated[tuple[str, ...], tyro.conf.Positional] = Field(
        min_length=1,
        description="tables of `femae predict` (csv, parquet, jsonl) or folders of them, one table per video, named "
        "after it; or the films themselves, or folders with the pictures of one video",
    )
    out: Path = Field(Path("predictions.txt"), description="the file to write")
    template: Path | None = Field(
        None, description="the organisers' file that lists the frames; without it, every frame of every film"
    )
    align: Literal["clip", "shift", "nearest"] = Field(
        "clip",
        description="how to align a film whose length differs from the template: clip (same start), shift (same "
        "end) or nearest (stretched)",
    )
    tolerance: int = Field(1, ge=0, description="number of frames by which a film may differ from the template")
    names: Path | None = Field(
        None, description="csv with rows `file name without suffix,video`, for files that are named otherwise"
    )
    several_faces: Literal["max", "mean", "largest", "track"] = Field(
        "max",
        description="for frames with several faces: the largest or mean score over them, the largest face, "
        "or the longest track",
    )
    no_face: str = Field(
        "interpolate", description="label of frames without a face: interpolate, nearest, or a class by name or number"
    )
    empty: str = Field(
        "most-common", description="label of videos without any face: most-common (of the file), or a class"
    )
    fill_missing: bool = Field(
        False, description="treat videos of the template that are not among the inputs as videos without any face"
    )
    smooth: float = Field(0.0, ge=0, description="smooth the scores over this many seconds on either side")
    frame_rate: float | None = Field(
        None, gt=0, description="frames per second, to smooth tables without times (of pictures)"
    )
    details: Path | None = Field(None, description="also write a csv with one row per video: what was done to it")
    model: Path | None = Field(None, description="for films: a femae model (.onnx) instead of the one that ships")
    detect: Annotated[DetectConfig, tyro.conf.OmitArgPrefixes] = DetectConfig()
    threads: int | None = Field(
        None, ge=1, description="for films: worker threads; default: one per core that may be used"
    )
    quiet: QuietOption = False
    debug: DebugOption = False


class CeConfig(WriteConfig):
    """Compound expressions: the seven classes of the challenge, one integer per frame."""

    rule: RuleOption = "sum"
    weights: WeightsOption = ""


class ExprConfig(WriteConfig):
    """Eight expressions: Neutral and Other are decided from the six probabilities, the rest is the largest of them."""

    neutral_below: float = Field(
        0.5, ge=0, le=1, description="Neutral where the largest of the six probabilities is below this; 0: never"
    )
    other_above: float | None = Field(
        None, ge=0, le=1, description="Other where the second largest probability reaches this too; default: never"
    )
    weights: str = Field(
        "", description="the largest is taken after multiplying with these weights, as in fear=2,surprise=0.5"
    )


class AuConfig(WriteConfig):
    """Twelve action units, each 0 or 1; needs a model, and tables, with action units."""

    threshold: float = Field(0.5, ge=0, le=1, description="a unit is 1 where its probability reaches this")
    thresholds: str = Field("", description="other thresholds for single units, as in AU01=0.4,AU15=0.3")


class ValidateConfig(Config):
    """List every error of a submission file with its line number. Exit status 1 when there is one."""

    file: Annotated[Path, tyro.conf.Positional] = Field(description="the file to submit")
    template: Path | None = Field(None, description="the organisers' file that lists the frames")
    track: _TrackOption = Field(None, description=_TRACK)
    any_videos: bool = Field(
        False, description="without a template: do not expect the 56 videos and 26,145 rows of the CE challenge"
    )
    limit: int = Field(10, ge=1, description="how many faults of each kind to print")
    debug: DebugOption = False


class ScoreConfig(Config):
    """Macro-F1 over all frames together; of CE beside the published teams."""

    file: Annotated[Path, tyro.conf.Positional] = Field(description="predictions: header, then rows as 01/00001.jpg,3")
    labels: Path = Field(description="the true labels, in the same format; frames without a known label do not count")
    track: _TrackOption = Field(None, description=_TRACK)
    name: str = Field("this file", description="what the row of these predictions is called in the table")
    debug: DebugOption = False


AbawCommand = (
    Annotated[CeConfig, tyro.conf.subcommand("ce", prefix_name=False)]
    | Annotated[ExprConfig, tyro.conf.subcommand("expr", prefix_name=False)]
    | Annotated[AuConfig, tyro.conf.subcommand("au", prefix_name=False)]
    | Annotated[ValidateConfig, tyro.conf.subcommand("validate", prefix_name=False)]
    | Annotated[ScoreConfig, tyro.conf.subcommand("score", prefix_name=False)]
)
