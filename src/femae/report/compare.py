"""Pages of several tables side by side: how far two models agree on one film, and how groups of films differ.

Groups: each film gives one number per measure (mean probability of an emotion, share of a label); a condition is the
mean over its films, so that a long film does not outweigh a short one. Intervals are percentiles of 2,000 bootstrap
draws of whole films: they show how much the number would vary with other films of the same kind, not the model's
errors. With fewer than three films in a condition there is no interval. Differences are taken against the first
condition, with independent draws of both; there is no correction for multiple comparisons.
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from femae.errors import InputError
from femae.labels import EMOTIONS
from femae.metrics.bootstrap import bootstrap_sums, interval
from femae.report.film.page import FilmToShow, film_page
from femae.report.parts.page import about_parts, page_section, sections_page, write_page
from femae.report.parts.svg import dot_chart
from femae.report.parts.tables import LABEL_WORDS, PredictionTable, read_alike
from femae.types import LabelView

__all__ = [
    "SHARE_OF",
    "Agreement",
    "Estimate",
    "FilmMeans",
    "agreement",
    "assign",
    "condition_means",
    "differences",
    "film_means",
    "is_one_film",
    "measure_names",
    "read_conditions",
    "without_unseen",
    "write_conditions_report",
    "write_models_report",
]

SHARE_OF = "share of "  # prefix of a label in the name of its measure
_NUM_DRAWS = 2000
_MIN_FILMS = 3
_SAME_FACE_IOU = 0.5  # at least, of two boxes
_METHOD = (
    "Each film counts once: its mean probabilities and its share of each {} that occurs. A condition is the mean over "
    "its films. Intervals hold 95 % of 2,000 bootstrap draws of whole films (none below three); differences are taken "
    "against the first condition, and are not corrected for looking at many measures."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class FilmMeans:
    """Means of one film: `values` f64[K] (measure_names), NaN without a face; `num_faces`: rows averaged."""

    source: str
    table: str
    values: npt.NDArray[np.float64]
    num_faces: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A mean over films with its 95 % interval (NaN: too few films)."""

    value: float
    low: float
    high: float

    @property
    def is_apart_from_0(self) -> bool:
        return bool(self.low > 0 or self.high < 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """Agreement of two tables of one film on the faces in both. differences, correlations: f64[6], per emotion."""

    num_both: int
    num_first: int
    num_second: int
    same_label: float
    differences: npt.NDArray[np.float64]
    correlations: npt.NDArray[np.float64]


def measure_names(table: PredictionTable) -> list[str]:
    """Names of FilmMeans.values: the means of the six emotions, then the shares of the labels in view."""
    return [*EMOTIONS, *(f"{SHARE_OF}{name}" for name in table.names)]


def film_means(table: PredictionTable) -> list[FilmMeans]:
    """The means of each source of a table."""
    films = []
    for source in dict.fromkeys(map(str, table.source)):
        rows = np.flatnonzero((table.source == source) & (table.face_id > 0))
        values = np.full(len(EMOTIONS) + len(table.names), np.nan)
        if len(rows):
            values[: len(EMOTIONS)] = table.emotions[rows].mean(0, dtype=np.float64)
            label = table.label[rows]
            values[len(EMOTIONS) :] = [(label == number).mean() for number in range(len(table.names))]
        films.append(FilmMeans(source=source, table=table.name, values=values, num_faces=len(rows)))
    return films


def without_unseen(films: Sequence[FilmMeans], names: Sequence[str]) -> tuple[list[FilmMeans], list[str]]:
    """The films and names without the shares of labels that no film has."""
    shown = [name in EMOTIONS or any(film.values[k] > 0 for film in films) for k, name in enumerate(names)]
    kept = [name for name, is_shown in zip(names, shown, strict=True) if is_shown]
    return [replace(film, values=film.values[np.array(shown)]) for film in films], kept


def read_conditions(path: Path) -> dict[str, str]:
    """Read source -> condition from a CSV with these two columns. Raises InputError."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            names = [name.strip().lower() for name in reader.fieldnames or []]
            if not {"source", "condition"} <= set(names):
                raise InputError(
                    f"'{path}' needs the columns source and condition; it has {', '.join(names) or 'none'}"
                )
            rows = [{(k or "").strip().lower(): (v or "").strip() for k, v in row.items()} for row in reader]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"'{path}' cannot be read: {getattr(error, 'strerror', None) or error}") from error
    conditions: dict[str, str] = {}
    for row in rows:
        source, condition = row["source"], row["condition"]
        if source and conditions.setdefault(source, condition) != condition:
            raise InputError(f"'{path}' gives '{source}' two conditions, '{conditions[source]}' and '{condition}'")
    if not conditions:
        raise InputError(f"'{path}' names no source")
    return conditions


def assign(films: Sequence[FilmMeans], conditions: Mapping[str, str]) -> tuple[dict[str, list[FilmMeans]], list[str]]:
    """Films by condition, in the order of the CSV, and sentences about films and conditions left out.

    A film is matched by its source, by the source without suffix, or by the name of its table.
    """
    groups: dict[str, list[FilmMeans]] = {condition: [] for condition in conditions.values()}
    used, without, faceless = set(), [], []
    for film in films:
        key = next((k for k in (film.source, Path(film.source).stem, film.table) if k in conditions), None)
        if key is None:
            without.append(film.source)
            continue
        used.add(key)
        if film.num_faces:
            groups[conditions[key]].append(film)
        else:
            faceless.append(film.source)
    problems = []
    for names, what in (
        (without, "have no condition and are left out"),
        (faceless, "show no face and are left out"),
        ([key for key in conditions if key not in used], "are in the conditions, but in no table"),
    ):
        if names:
            problems.append(f"{len(names)} of the sources {what}: {', '.join(names[:5])}{' ...' * (len(names) > 5)}")
    return {name: members for name, members in groups.items() if members}, problems


def _draws(films: Sequence[FilmMeans], seed: int) -> npt.NDArray[np.float64]:
    values = np.stack([film.values for film in films])
    return bootstrap_sums(values, num=_NUM_DRAWS, seed=seed) / len(films)


def condition_means(films: Sequence[FilmMeans], *, seed: int = 0) -> list[Estimate]:
    """Mean over films with its 95 % interval, per measure."""
    means = np.mean([film.values for film in films], axis=0)
    if len(films) < _MIN_FILMS:
        return [Estimate(value=float(mean), low=float("nan"), high=float("nan")) for mean in means]
    return _estimates(means, _draws(films, seed))


def differences(films: Sequence[FilmMeans], reference: Sequence[FilmMeans], *, seed: int = 0) -> list[Estimate]:
    """Mean of `films` minus mean of `reference`, with its 95 % interval, per measure."""
    means = np.mean([film.values for film in films], axis=0) - np.mean([film.values for film in reference], axis=0)
    if min(len(films), len(reference)) < _MIN_FILMS:
        return [Estimate(value=float(mean), low=float("nan"), high=float("nan")) for mean in means]
    return _estimates(means, _draws(films, seed + 1) - _draws(reference, seed + 2))


def _estimates(means: npt.NDArray[np.float64], draws: npt.NDArray[np.float64]) -> list[Estimate]:
    limits = [interval(column) for column in draws.T]
    return [Estimate(value=float(mean), low=low, high=high) for mean, (low, high) in zip(means, limits, strict=True)]


def agreement(first: PredictionTable, second: PredictionTable) -> Agreement:
    """Compare two tables of one film on faces that overlap in a frame (intersection over union of at least 0.5)."""
    pairs = _matched_rows(first, second)
    a, b = pairs[:, 0], pairs[:, 1]
    x, y = first.emotions[a].astype(np.float64), second.emotions[b].astype(np.float64)
    correlations = np.full(len(EMOTIONS), np.nan)
    if len(pairs) > 2:
        moving = (x.std(0) > 1e-9) & (y.std(0) > 1e-9)
        correlations[moving] = [float(np.corrcoef(x[:, j], y[:, j])[0, 1]) for j in np.flatnonzero(moving)]
    same = first.label[a] == second.label[b]
    return Agreement(
        num_both=len(pairs),
        num_first=int((first.face_id > 0).sum()),
        num_second=int((second.face_id > 0).sum()),
        same_label=float(same.mean()) if len(pairs) else float("nan"),
        differences=np.abs(x - y).mean(0) if len(pairs) else np.full(len(EMOTIONS), np.nan),
        correlations=correlations,
    )


def _matched_rows(first: PredictionTable, second: PredictionTable) -> npt.NDArray[np.int64]:
    """Pairs of rows i64[M, 2] of the same source and frame, matched greedily by overlap; each row at most once."""
    by_frame: dict[tuple[str, int], list[int]] = {}
    for row in np.flatnonzero(second.face_id > 0):
        by_frame.setdefault((str(second.source[row]), int(second.frame[row])), []).append(int(row))
    candidates: dict[tuple[str, int], list[tuple[float, int, int]]] = {}
    for row in np.flatnonzero(first.face_id > 0):
        key = (str(first.source[row]), int(first.frame[row]))
        for other in by_frame.get(key, ()):
            overlap = _overlap(first.boxes[row], second.boxes[other])
            if overlap >= _SAME_FACE_IOU:
                candidates.setdefault(key, []).append((overlap, int(row), other))
    pairs: list[tuple[int, int]] = []
    for found in candidates.values():
        taken: set[tuple[str, int]] = set()
        for _, a, b in sorted(found, reverse=True):
            if ("a", a) not in taken and ("b", b) not in taken:
                taken |= {("a", a), ("b", b)}
                pairs.append((a, b))
    return np.array(sorted(pairs), np.int64).reshape(-1, 2)


def _overlap(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    """Intersection over union of two boxes f32[4]."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if not (width > 0 and height > 0):
        return 0.0
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return float(width * height / (areas - width * height))


def is_one_film(tables: Sequence[PredictionTable]) -> bool:
    """Whether all tables are of the same film."""
    sources = {source for table in tables for source in set(map(str, table.source))}
    return len(sources) == 1 and all(table.is_film for table in tables)


def write_models_report(
    tables: Sequence[str | Path],
    *,
    out: str | Path,
    video: str | Path | None = None,
    max_mb: float = 24.0,
    labels: LabelView = "expression",
    advance: Callable[[], None] = lambda: None,
) -> Path:
    """Write one page for several tables of one film: all faces on one timeline, and how far the tables agree.

    The annotated film shows the first table. Raises InputError if the tables are of different films or classes.
    """
    folders = [Path(table).resolve().parent.name for table in tables]
    read = _with_unique_names(read_alike(tables, labels=labels), folders)
    if not is_one_film(read):
        raise InputError("these tables are not of one film: compare different films with --conditions")
    rows = [_agreement_row(read[0], other) for other in read[1:]]
    label, _ = LABEL_WORDS[read[0].labels]
    head = ["against", "faces in both", f"same {label}", *(f"{e}: |difference|, r" for e in EMOTIONS)]
    note = f"Each table against {read[0].name}, over the faces that both found in a frame (boxes overlap by half)."
    page = film_page(
        read,
        title=f"{read[0].source[0]}: {', '.join(table.name for table in read)}",
        film=FilmToShow(path=None if video is None else Path(video), max_mb=max_mb, advance=advance),
        settings={},
        agreement={"head": head, "rows": rows, "note": note},
    )
    return write_page(Path(out), page)


def _with_unique_names(tables: list[PredictionTable], folders: Sequence[str]) -> list[PredictionTable]:
    """Appends the folder's name to equal table names, and a number if the folders are equal, too."""
    names = [table.name for table in tables]
    longer = [f"{n} ({f})" if names.count(n) > 1 and f else n for n, f in zip(names, folders, strict=True)]
    seen = [longer[: index + 1].count(name) for index, name in enumerate(longer)]
    own = [name if number == 1 else f"{name} {number}" for name, number in zip(longer, seen, strict=True)]
    return [replace(table, name=name) for table, name in zip(tables, own, strict=True)]


def _agreement_row(first: PredictionTable, other: PredictionTable) -> list[str]:
    found = agreement(first, other)
    cells = [f"{d:.3f}, {r:.2f}" for d, r in zip(found.differences, found.correlations, strict=True)]
    largest = max(found.num_first, found.num_second)
    return [other.name, f"{found.num_both:,} of {largest:,}", f"{found.same_label:.1%}", *cells]


def write_conditions_report(
    tables: Sequence[str | Path],
    *,
    out: str | Path,
    conditions: str | Path | None,
    labels: LabelView = "expression",
) -> Path:
    """Write one page for groups of films: means, shares and differences per condition, then each film.

    `conditions`: CSV with the columns source and condition; None: every source is its own condition. Raises
    InputError if no film has a condition, or if the tables have different classes.
    """
    read = read_alike(tables, labels=labels)
    if any(table.compounds != read[0].compounds for table in read):
        raise InputError("these tables have different compound classes: compare like with like")
    films, names = [film for table in read for film in film_means(table)], measure_names(read[0])
    label = LABEL_WORDS[read[0].labels][0]
    if label == "expression":
        films, names = without_unseen(films, names)
    alone = {film.source: film.source for film in films}
    given = alone if conditions is None else read_conditions(Path(conditions))
    groups, problems = assign(films, given)
    if not groups:
        raise InputError("no film of these tables has a condition: the column source must hold the names of the films")
    sections = [
        _means_section(groups, names, label=label),
        _differences_section(groups, names),
        _films_section(groups, names),
    ]
    inputs = [("tables", ", ".join(table.name for table in read))]
    if conditions is not None:
        inputs.append(("conditions", Path(conditions).name))
    page = sections_page(
        "Comparison: " + ", ".join(groups),
        subtitle=", ".join(f"{name}: {len(group)} film{'s' * (len(group) != 1)}" for name, group in groups.items()),
        sections=sections,
        about=about_parts(read[0].metadata, inputs=inputs),
        problems=(*(text for table in read for text in table.problems), *problems),
    )
    return write_page(Path(out), page)


def _chart(title: str, names: Sequence[str], estimates: Mapping[str, list[Estimate]], start: int) -> dict[str, Any]:
    rows = [
        (name, [(group, *_triple(values[start + number])) for group, values in estimates.items()])
        for number, name in enumerate(names)
    ]
    return {"caption": title, "svg": dot_chart(rows, title=title, x_label="mean over films, 95 % interval")}


def _triple(estimate: Estimate) -> tuple[float, float, float]:
    return estimate.value, estimate.low, estimate.high


def _charts(names: list[str], estimates: Mapping[str, list[Estimate]], titles: tuple[str, str]) -> list[dict[str, Any]]:
    cut = len(EMOTIONS)
    labels = [name.removeprefix(SHARE_OF) for name in names[cut:]]
    return [_chart(titles[0], names[:cut], estimates, 0), _chart(titles[1], labels, estimates, cut)]


def _means_section(groups: Mapping[str, list[FilmMeans]], names: list[str], *, label: str) -> dict[str, Any]:
    estimates = {group: condition_means(films, seed=number) for number, (group, films) in enumerate(groups.items())}
    rows = [[name, *(_format_estimate(estimates[group][k]) for group in groups)] for k, name in enumerate(names)]
    figures = _charts(names, estimates, ("Mean probability of the emotions", f"Share of each {label}"))
    tables = [{"name": "", "head": ["measure", *groups], "rows": rows}]
    return page_section("Conditions", text=_METHOD.format(label), figures=figures, tables=tables)


def _differences_section(groups: Mapping[str, list[FilmMeans]], names: list[str]) -> dict[str, Any]:
    (first, reference), *others = groups.items()
    estimates = {f"{group} - {first}": differences(films, reference, seed=n) for n, (group, films) in enumerate(others)}
    columns = estimates.values()
    rows = [[name, *(_format_estimate(column[k], mark=True) for column in columns)] for k, name in enumerate(names)]
    if not estimates:
        return page_section("Differences")
    figures = _charts(names, estimates, ("Differences of the emotions", "Differences of the shares"))
    text = "A star: the interval does not contain 0."
    table = {"name": "", "head": ["measure", *estimates], "rows": rows}
    return page_section("Differences", text=text, figures=figures, tables=[table])


def _format_estimate(estimate: Estimate, *, mark: bool = False) -> str:
    if not np.isfinite(estimate.low):
        return f"{estimate.value:.3f}"
    star = " *" if mark and estimate.is_apart_from_0 else ""
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f}){star}"


def _films_section(groups: Mapping[str, list[FilmMeans]], names: list[str]) -> dict[str, Any]:
    rows = [
        [film.source, group, f"{film.num_faces:,}", *(f"{value:.2f}" for value in film.values)]
        for group, films in groups.items()
        for film in films
    ]
    table = {"name": "", "head": ["film", "condition", "rows", *names], "rows": rows, "long": len(rows) > 20}
    return page_section("Films", tables=[table])
