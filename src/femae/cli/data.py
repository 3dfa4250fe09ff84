"""`femae data ...`: the function that runs each subcommand."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from femae.config.data import (
    DoctorConfig,
    ExportAnnotationConfig,
    FoldsConfig,
    ImportConfig,
    OpenConfig,
    PrepareConfig,
    PseudoAuConfig,
    SourcesConfig,
)
from femae.cores import num_cores
from femae.printing import print_lines

__all__ = ["run_data"]


def run_data(command: Any) -> int:
    """Run one subcommand.

    Returns 0, or 1 where a data set gave no sample, `pseudo-au` saw no face, or `doctor --strict` found faults.
    """
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
        return _pseudo_au(command)
    assert isinstance(command, OpenConfig)
    return _open(command)


def _print(lines: Iterable[str], *, quiet: bool = False) -> None:
    if not quiet:
        print_lines(lines)


def _prepare(config: PrepareConfig) -> int:
    from femae.data.prepare.run import PrepareSettings, Workers, prepare
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
        workers=Workers(num=config.workers, cluster=config.cluster, detector_path=config.detector),
        quiet=config.quiet,
    )
    _print(prepare_lines(result), quiet=config.quiet)
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
    _print(doctor_lines(diagnosis, page=str(config.out / "doctor.html")), quiet=config.quiet)
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
    _print(import_lines(result))
    return 0


def _export(config: ExportAnnotationConfig) -> int:
    from femae.data.annotate.label_studio import FaceDraw, export_label_studio
    from femae.data.summary import export_lines

    project = export_label_studio(
        config.shards,
        out=config.out,
        pictures=config.pictures,
        document_root=config.document_root,
        faces=FaceDraw(limit=config.limit, unlabelled_only=config.unlabelled_only, seed=config.seed),
    )
    _print(export_lines(project))
    return 0


def _open(config: OpenConfig) -> int:
    sources = tuple(f"{name}={config.data / name}" for name in ("ferplus", "lfw", "synth3d"))
    return _prepare(PrepareConfig(sources=sources, out=config.out, workers=config.workers, quiet=config.quiet))


def _folds(config: FoldsConfig) -> int:
    from femae.data.folds import make_folds, write_folds
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
    _print([*fold_lines(folds.report), f"-> {out}"])
    return 0


def _pseudo_au(config: PseudoAuConfig) -> int:
    """Returns 1 when no face was seen at all, else 0."""
    from femae.data.pseudo_aus import blendshapes
    from femae.data.pseudo_aus.measure import LandmarkerModel, PseudoAuOptions, make_pseudo_aus
    from femae.data.summary import pseudo_au_lines

    task, sha256 = blendshapes.read_landmarker(config.landmarker or blendshapes.find_landmarker())
    result = make_pseudo_aus(
        config.shards,
        out=config.out,
        landmarker=LandmarkerModel(open=lambda: blendshapes.BlendshapeNet(task), sha256=sha256),
        options=PseudoAuOptions(sources=config.sources, min_presence=config.min_presence),
        num_workers=config.workers or num_cores(),
        quiet=config.quiet,
    )
    _print(pseudo_au_lines(result), quiet=config.quiet)
    return int(not any(result.num_seen.values()))


def _sources(_: SourcesConfig) -> int:
    from femae.data.sources.catalog import SOURCES, source_options

    width = max(map(len, SOURCES))
    _print(f"{name:<{width}}  options: {', '.join(source_options(name))}" for name in SOURCES)
    return 0


def _readers(sources: Iterable[str], options: Iterable[str]) -> list[Any]:
    """A reader for each `KIND=FOLDER` or plain path; options are `NAME=VALUE` and go to every reader."""
    from femae.data.sources.catalog import open_sources

    return open_sources(sources, options=options)
