"""What the page is told: the choices it offers, and how a job stands."""

import time
from pathlib import Path
from typing import Any, Final, get_args

from femae.app.jobs import Job, JobQueue
from femae.app.names import download_stem
from femae.compound.rules import RULES
from femae.config.app import AppConfig
from femae.engine.load import load_engine
from femae.inference.predictor import shipped_model
from femae.labels import CLASS_SETS
from femae.types import LabelView
from femae.video.discover import PICTURE_SUFFIXES

__all__ = ["DOWNLOADS", "choices", "file_name", "job_view", "model_names"]

# Key of an output -> what stands after the film's name in the name of the download.
DOWNLOADS: Final = {
    "table.csv": ".csv",
    "table.parquet": ".parquet",
    "table.jsonl": ".jsonl",
    "film.mp4": ".annotated.mp4",
    "pictures.zip": ".annotated.zip",
    "report.html": ".report.html",
}
_RULE_WORDS: Final = {
    "sum": "sum of the two probabilities",
    "product": "product",
    "arithmetic": "arithmetic mean",
    "geometric": "geometric mean",
    "harmonic": "harmonic mean",
}
_LABEL_WORDS: Final[dict[LabelView, str]] = {
    "expression": "none, emotion or compound",
    "compound": "always a compound",
}
_CLASS_WORDS: Final = {"abaw": "ABAW, 7 classes", "raf-db": "RAF-DB, 11 classes"}


def model_names(models: tuple[Path, ...]) -> list[str]:
    """What the shipped model and the given ones call themselves. Raises ModelError for a wrong file."""
    with shipped_model() as shipped:
        specs = [load_engine(path).spec for path in (shipped, *models)]
    names = [f"{spec.name} {spec.version}".strip() for spec in specs]
    return [names[0], *(f"{name} ({path.name})" for name, path in zip(names[1:], models, strict=True))]


def choices(config: AppConfig, *, models: list[str]) -> dict[str, Any]:
    """The settings that the page offers, and the limits it should warn of before an upload."""
    assert set(RULES) == set(_RULE_WORDS) and set(get_args(LabelView)) == set(_LABEL_WORDS)
    assert set(CLASS_SETS) >= set(_CLASS_WORDS)
    return {
        "models": models,
        "labels": [[key, _LABEL_WORDS[key]] for key in sorted(_LABEL_WORDS, key=lambda key: key != config.labels)],
        "rules": [[rule, _RULE_WORDS[rule]] for rule in RULES],
        "classes": [[key, words] for key, words in _CLASS_WORDS.items()],
        "pictureSuffixes": sorted(PICTURE_SUFFIXES),
        "maxBytes": int(config.max_upload_mb * 1e6),
        "maxMinutes": config.max_minutes,
        "maxPictures": config.max_pictures,
        "keepMinutes": config.keep_minutes,
    }


def job_view(job: Job, queue: JobQueue) -> dict[str, Any]:
    """How a job stands."""
    elapsed_s = time.monotonic() - job.started_s
    rate = job.num_done / elapsed_s if job.state == "running" and job.num_done and elapsed_s > 0 else None
    left_s = None
    if rate and job.num_total is not None and job.phase == "reading":
        left_s = max(0.0, (job.num_total - job.num_done) / rate)
    return {
        "id": job.id,
        "name": job.name,
        "state": job.state,
        "phase": job.phase,
        "stopping": job.cancelled.is_set() and not job.is_over,
        "position": queue.position(job),
        "message": job.message,
        "problems": job.problems,
        "done": job.num_done,
        "total": job.num_total,
        "rate": rate,
        "leftS": left_s,
        "facts": job.facts,
        "files": [
            {"key": key, "bytes": job.outputs[key].stat().st_size}
            for key in DOWNLOADS
            if job.state == "done" and key in job.outputs
        ],
    }


def file_name(job: Job, key: str) -> str:
    """What a download is called."""
    stem = download_stem(job.uploads[0].name) if len(job.uploads) == 1 else "pictures"
    if key in DOWNLOADS:
        return stem + DOWNLOADS[key]
    return key
