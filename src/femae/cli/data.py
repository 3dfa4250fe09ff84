"""`femae data ...`: options of each subcommand, and the one call that does it."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from pydantic import Field

from femae.config.base import Config
from femae.config.cluster import ClusterOption
from femae.config.pseudo_au import PseudoAuConfig

__all__ = [
    "DataCommand",
    "DoctorConfig",
    "ExportAnnotationConfig",
    "FoldsConfig",
    "ImportConfig",
    "OpenConfig",
    "PrepareConfig",
    "SourcesConfig",
    "run_data",
]

_Sources = Annotated[tuple[str, ...], tyro.conf.Positional]
_SOURCES = "data sets as KIND=FOLDER (`femae data sources` names the kinds), or folders of pictures and films"
_OPTIONS = "NAME=VALUE pairs for the readers of these data sets, e.g. every=5 name=mine"
_OUT = "new folder of the shards, or one of an earlier run to go on with"
_WORKERS = "worker processes; default: one per core"
_QUIET = "no progress and no summary"
_DEBUG = "show the traceback of an error"


class PrepareConfig(Config):
    """Any data set -> face crops with labels in Parquet shards. A run that was stopped goes on where it was."""

    sources: _Sources = Field(min_length=1, description=_SOURCES)
    options: tuple[str, ...] = Field(default=(), description=_OPTIONS)
    out: Path = Field(description=_OUT)
    size: int = Field(default=112, ge=16, le=1024, description="pixels a side of the frame that predict feeds")
    margin: float = Field(
        default=1.25,
        ge=1,
        le=3,
        description="the stored picture shows so many times that frame, as context for augmentation",
    )
    crops: bool = Field(
        default=False, description="every picture is a face crop already: keep it untouched, detect nothing"
    )
    redetect: bool = Field(
        default=False, description="look for the face also in pictures that their data set calls crops"
    )
    all_faces: bool = Field(default=False, description="of pictures without any label keep every face")
    min_face: float = Field(default=16.0, ge=0, description="smallest face, pixels of its shorter box side")
    detector: Path | None = Field(
        default=None, description="a face detector in ONNX format instead of the built-in one"
    )
    detection_threshold: float | None = Field(
        default=None, gt=0, lt=1, description="lowest detection score; default: the detector's own"
    )
    jpeg_quality: int = Field(default=95, ge=50, le=100, description="of the stored crops")
    shard_size: int = Field(default=1024, ge=1, description="samples in a shard, which is also the unit of work")
    workers: int | None = Field(default=None, ge=1, description=_WORKERS)
    cluster: ClusterOption = None
    quiet: bool = Field(default=False, description=_QUIET)
    debug: bool = Field(default=False, description=_DEBUG)


class DoctorConfig(Config):
    """Look at every sample: damaged pictures, duplicates, leaks, wrong labels; contact sheets and a page."""

    subjects: _Sources = Field(min_length=1, description="a folder of shards, or raw data sets as in `prepare`")
    options: tuple[str, ...] = Field(default=(), description=_OPTIONS)
    out: Path = Field(
        default=Path("femae-doctor"), description="folder of doctor.html, doctor.json and the contact sheets"
    )
    max_distance: int | None = Field(
        default=None, ge=0, le=16, description="bits in which hashes of near duplicates may differ; default: by amount"
    )
    strict: bool = Field(default=False, description="exit status 1 when there is an error or a warning")
    quiet: bool = Field(default=False, description=_QUIET)
    debug: bool = Field(default=False, description=_DEBUG)


class FoldsConfig(Config):
    """Folds per data set over whole subjects, films and copies, balanced by label."""

    shards: Annotated[Path, tyro.conf.Positional] = Field(description="folder of shards")
    out: Path | None = Field(default=None, description="table of folds; default: folds.parquet in the folder of shards")
    num_folds: int = Field(default=5, ge=2, description="folds per data set")
    seed: int = Field(default=0, description="of the draw")
    hold_out: tuple[str, ...] = Field(default=("test",), description="splits that stay out of the folds")
    max_distance: int | None = Field(
        default=None, ge=0, le=16, description="bits in which hashes of near duplicates may differ; default: by amount"
    )
    look: bool = Field(default=True, description="compare the pictures of near duplicates, not only their hashes")
    debug: bool = Field(default=False, description=_DEBUG)


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
    limit: int | None = Field(default=None, ge=1, description="so many faces, drawn at random")
    unlabelled_only: bool = Field(default=False, description="only faces without a known emotion")
    seed: int = Field(default=0, description="of the draw and the order")
    debug: bool = Field(default=False, description=_DEBUG)


class ImportConfig(Config):
    """Label Studio's export (JSON or JSON-MIN) -> shards with vote shares, agreement figures, annotator reports."""

    exports: Annotated[tuple[Path, ...], tyro.conf.Positional] = Field(min_length=1, description="exported files")
    shards: Path = Field(description="the shards that the project was made from")
    out: Path = Field(description="new folder of the voted shards")
    min_annotators: int = Field(default=1, ge=1, description="fewest ballots that make a label")
    keep_unannotated: bool = Field(default=False, description="keep faces with too few ballots, without a label")
    debug: bool = Field(default=False, description=_DEBUG)


class OpenConfig(Config):
    """Shards of the open sets in one go: FER+, LFW expressions and the rendered faces (crops, kept untouched)."""

    data: Annotated[Path, tyro.conf.Positional] = Field(description="folder with ferplus, lfw and synth3d")
    out: Path = Field(description=_OUT)
    workers: int | None = Field(default=None, ge=1, description=_WORKERS)
    quiet: bool = Field(default=False, description=_QUIET)
    debug: bool = Field(default=False, description=_DEBUG)


class SourcesConfig(Config):
    """Name the kinds of data sets that can be read, and the options of their readers."""

    debug: bool = Field(default=False, description=_DEBUG)


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


def run_data(command: Any) -> int:
    """Run one subcommand. Returns 0 (done) or 1 (a data set gave nothing; doctor --strict). Raises FemaeError."""
    if isinstance(command, PrepareConfig):
        return _prepare(command)
    if isinstance(command, DoctorConfig):
        return _doctor(command)
    if isinstance(command, FoldsConfig):
        return _folds(command)
    if isinstance(command, ImportConfig):
        return _import(command)
    if isinstance(command, ExportAnnotationConfig):
        return _export(command)
    if isinstance(command, SourcesConfig):
        return _sources(command)
    if isinstance(command, PseudoAuConfig):
        from femae.cli.pseudo_au import run_pseudo_au

        return run_pseudo_au(command)
    assert isinstance(command, OpenConfig)
    return _open(command)


def _say(lines: Iterable[str], *, quiet: bool = False) -> None:
    if not quiet:
        text = "".join(f"{line}\n" for line in lines)
        encoding = sys.stdout.encoding or "utf-8"
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))


def _prepare(config: PrepareConfig) -> int:
    from femae.data.prepare.run import PrepareSettings, prepare
    from femae.data.summary import prepare_lines

    settings = PrepareSettings(
        size=config.size,
        margin=config.margin,
        crops=config.crops,
        redetect=config.redetect,
        all_faces=config.all_faces,
        min_face=config.min_face,
        detection_threshold=config.detection_threshold,
        jpeg_quality=config.jpeg_quality,
        shard_size=config.shard_size,
    )
    result = prepare(
        _readers(config.sources, config.options),
        out=config.out,
        settings=settings,
        detector_path=config.detector,
        num_workers=config.workers,
        cluster=config.cluster,
        quiet=config.quiet,
    )
    _say(prepare_lines(result), quiet=config.quiet)
    return int(any(not result.info["sources"][name]["num_samples"] for name in result.sources))


def _doctor(config: DoctorConfig) -> int:
    from femae.data.doctor.run import diagnose_raw, diagnose_shards
    from femae.data.summary import doctor_lines

    first = Path(config.subjects[0])
    if len(config.subjects) == 1 and ((first / "manifest.json").exists() or (first / "settings.json").exists()):
        diagnosis = diagnose_shards(first, out=config.out, max_distance=config.max_distance)
    else:
        subject = ", ".join(config.subjects)
        diagnosis = diagnose_raw(
            _readers(config.subjects, config.options), subject=subject, out=config.out, max_distance=config.max_distance
        )
    _say(doctor_lines(diagnosis, page=str(config.out / "doctor.html")), quiet=config.quiet)
    return int(config.strict and not diagnosis.is_sound)


def _import(config: ImportConfig) -> int:
    from femae.data.annotate.voted_shards import import_label_studio
    from femae.data.summary import import_lines

    result = import_label_studio(
        list(config.exports),
        shards=config.shards,
        out=config.out,
        min_annotators=config.min_annotators,
        keep_unannotated=config.keep_unannotated,
    )
    _say(import_lines(result))
    return 0


def _export(config: ExportAnnotationConfig) -> int:
    from femae.data.annotate.label_studio import export_label_studio
    from femae.data.summary import export_lines

    project = export_label_studio(
        config.shards,
        out=config.out,
        pictures=config.pictures,
        document_root=config.document_root,
        limit=config.limit,
        unlabelled_only=config.unlabelled_only,
        seed=config.seed,
    )
    _say(export_lines(project))
    return 0


def _open(config: OpenConfig) -> int:
    sources = tuple(f"{name}={config.data / name}" for name in ("ferplus", "lfw", "synth3d"))
    return _prepare(PrepareConfig(sources=sources, out=config.out, workers=config.workers, quiet=config.quiet))


def _folds(config: FoldsConfig) -> int:
    from femae.data.folds.table import make_folds, write_folds
    from femae.data.store.manifest import read_manifest
    from femae.data.summary import fold_lines

    manifest = read_manifest(config.shards)
    folds = make_folds(
        manifest,
        num_folds=config.num_folds,
        seed=config.seed,
        hold_out=config.hold_out,
        max_distance=config.max_distance,
        look=config.look,
    )
    out = config.out or config.shards / "folds.parquet"
    write_folds(out, folds, manifest=manifest)
    assert folds.report is not None
    _say([*fold_lines(folds.report), f"-> {out}"])
    return 0


def _sources(_: SourcesConfig) -> int:
    from femae.data.sources.catalog import SOURCES, source_options

    width = max(map(len, SOURCES))
    _say(f"{name:<{width}}  options: {', '.join(source_options(name))}" for name in SOURCES)
    return 0


def _readers(sources: Iterable[str], options: Iterable[str]) -> list[Any]:
    """The reader of each `KIND=FOLDER` or plain path; options are `NAME=VALUE` and go to every reader."""
    from femae.data.sources.choose import open_sources

    return open_sources(sources, options=options)
