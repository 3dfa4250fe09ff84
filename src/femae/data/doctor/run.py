"""`femae data doctor`: examines every sample of shards or of a raw data set and reports problems.

Writes into a folder: doctor.json (all results, machine-readable), doctor.html (a self-contained page), and a contact
sheet per class as png. The checks: data/doctor/checks.py.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from femae.data.doctor.checks import Checks, Finding
from femae.data.doctor.page import ContactSheets
from femae.data.doctor.scan import Item, ShardProblem, scan_raw, scan_shards
from femae.data.samples import SourceReader
from femae.data.store.manifest import Manifest, numbers, read_manifest, write_bytes
from femae.data.store.shards import ACTION_UNITS
from femae.labels import EMOTIONS

__all__ = ["Diagnosis", "diagnose_raw", "diagnose_shards"]

_QUALITY: Final = (
    "face_size_px",
    "blur",
    "darkness",
    "contrast",
    "detection_score",
    "yaw_deg",
    "pitch_deg",
    "roll_deg",
)
_QUANTILES: Final = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """The result of an examination, the content of doctor.json."""

    subject: str
    kind: str  # shards or raw
    num_samples: int
    sources: dict[str, dict[str, Any]]  # counts per data set: classes, splits, labels
    quality: dict[str, list[float]]  # measure -> its quantiles 0, .05, .25, .5, .75, .95, 1 (shards only)
    findings: tuple[Finding, ...]
    sheets: tuple[tuple[str, int, str], ...]  # class name, number of samples, file name

    @property
    def is_sound(self) -> bool:
        """Whether there is no error and no warning, as `--strict` requires."""
        return all(finding.severity == "note" for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """The content of doctor.json."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Subject:
    """The samples to examine."""

    name: str
    kind: str  # shards or raw
    items: Iterable[Item | ShardProblem]
    left_out: Callable[[], dict[str, int]]  # cause -> count, called after the last item
    quality: Mapping[str, list[float]]


def diagnose_shards(folder: Path, *, out: Path, max_distance: int | None = None) -> Diagnosis:
    """Examine a folder of shards. Raises DataError when it has no manifest."""
    manifest = read_manifest(folder)
    left_out: dict[str, int] = {}
    for source, counts in manifest.info["sources"].items():
        for cause, entry in {**counts.get("left_out", {}), **counts.get("left_out_by_reader", {})}.items():
            left_out[f"{source}: {cause}"] = entry["count"]
    subject = _Subject(
        name=str(folder),
        kind="shards",
        items=scan_shards(manifest),
        left_out=lambda: left_out,
        quality=_quality(manifest),
    )
    return _diagnose(subject, out=out, max_distance=max_distance)


def diagnose_raw(
    readers: Iterable[SourceReader], *, subject: str, out: Path, max_distance: int | None = None
) -> Diagnosis:
    """Examine raw data sets through their readers: whole pictures, without face detection."""
    used = list(readers)

    def items() -> Iterator[Item | ShardProblem]:
        for reader in used:
            yield from scan_raw(reader)

    def left_out() -> dict[str, int]:
        return {
            f"{reader.reading.source}: {cause}": count
            for reader in used
            for cause, count in reader.reading.excluded.items()
        }

    examined = _Subject(name=subject, kind="raw", items=items(), left_out=left_out, quality={})
    return _diagnose(examined, out=out, max_distance=max_distance)


def _diagnose(subject: _Subject, *, out: Path, max_distance: int | None) -> Diagnosis:
    from femae.data.doctor.page import render_page

    checks, sheets = Checks(), ContactSheets()
    for item in subject.items:
        checks.add(item)
        if isinstance(item, Item) and item.image is not None:
            sheets.add(item.class_name, item.image, item.pixel_digest)
    findings = checks.findings(left_out=subject.left_out(), max_distance=max_distance)
    out.mkdir(parents=True, exist_ok=True)
    files: list[tuple[str, int, str]] = []
    pictures: dict[str, bytes] = {}
    for number, (name, total, png) in enumerate(sheets.sheets(), start=1):
        file = f"contact-{number:02d}-{_slug(name)}.png"
        write_bytes(out / file, png)
        files.append((name, total, file))
        pictures[file] = png
    diagnosis = Diagnosis(
        subject=subject.name,
        kind=subject.kind,
        num_samples=checks.num_samples,
        sources={source: _source_counts(checks, source) for source in sorted(checks.labels)},
        quality=dict(subject.quality),
        findings=tuple(findings),
        sheets=tuple(files),
    )
    write_bytes(out / "doctor.json", (json.dumps(diagnosis.as_json(), indent=2, ensure_ascii=False) + "\n").encode())
    write_bytes(out / "doctor.html", render_page(diagnosis, pictures).encode())
    return diagnosis


def _source_counts(checks: Checks, source: str) -> dict[str, Any]:
    known, positive, total = checks.labels[source]
    names = (*EMOTIONS, *ACTION_UNITS)
    return {
        "num_samples": sum(count for (name, _), count in checks.classes.items() if name == source),
        "classes": {
            class_name or "(no label)": count
            for (name, class_name), count in sorted(checks.classes.items(), key=lambda item: -item[1])
            if name == source
        },
        "splits": {
            split or "(none)": count for (name, split), count in sorted(checks.splits.items()) if name == source
        },
        "labels": {
            name: {"known": int(known[i]), "positive": int(positive[i]), "sum": round(float(total[i]), 3)}
            for i, name in enumerate(names)
            if known[i]
        },
    }


def _quality(manifest: Manifest) -> dict[str, list[float]]:
    """Quantiles of each quality measure over the rows where it is known."""
    quantiles: dict[str, list[float]] = {}
    for name in _QUALITY:
        values = numbers(manifest.table, name).astype(np.float64)
        values = values[np.isfinite(values)]
        if values.size:
            quantiles[name] = [round(float(value), 4) for value in np.quantile(values, _QUANTILES)]
    return quantiles


def _slug(name: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in name.lower()).strip("-")[:40] or "class"
