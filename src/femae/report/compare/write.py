"""The pages that compare tables: two models on one film, or groups of films by condition."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from femae.errors import InputError
from femae.labels import EMOTIONS
from femae.report.compare.compare import (
    SHARE_OF,
    Estimate,
    FilmMeans,
    agreement,
    assign,
    condition_means,
    differences,
    film_means,
    measure_names,
    read_conditions,
    without_unseen,
)
from femae.report.film.page import film_page
from femae.report.parts.about import about_parts
from femae.report.parts.page import Page, write_page
from femae.report.parts.svg import dot_chart
from femae.report.parts.tables import LABEL_WORDS, PredictionTable, read_alike
from femae.types import LabelView

__all__ = ["is_one_film", "write_conditions_report", "write_models_report"]

_METHOD = (
    "Each film counts once: its mean probabilities and its share of each {} that occurs. A condition is the mean over "
    "its films. Intervals hold 95 % of 2,000 bootstrap draws of whole films (none below three); differences are taken "
    "against the first condition, and are not corrected for looking at many measures."
)


def is_one_film(tables: Sequence[PredictionTable]) -> bool:
    """Whether all tables are of one and the same film."""
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
    """One page for several tables of one film: faces of all of them on one timeline, and how far they agree.

    The annotated film shows the first table. Raises InputError when the tables are of different films or classes.
    """
    folders = [Path(table).resolve().parent.name for table in tables]
    read = _with_own_names(read_alike(tables, labels=labels), folders)
    if not is_one_film(read):
        raise InputError("these tables are not of one film: compare different films with --conditions")
    rows = [_agreement_row(read[0], other) for other in read[1:]]
    label, _ = LABEL_WORDS[read[0].labels]
    head = ["against", "faces in both", f"same {label}", *(f"{e}: |difference|, r" for e in EMOTIONS)]
    note = f"Each table against {read[0].name}, over the faces that both found in a frame (boxes overlap by half)."
    page = film_page(
        read,
        title=f"{read[0].source[0]}: {', '.join(table.name for table in read)}",
        video=None if video is None else Path(video),
        max_mb=max_mb,
        settings={},
        extra={"agreement": {"head": head, "rows": rows, "note": note}},
        template="compare.html.j2",
        advance=advance,
    )
    return write_page(Path(out), page)


def _with_own_names(tables: list[PredictionTable], folders: Sequence[str]) -> list[PredictionTable]:
    """Tables of one name get the name of their folder behind it, and where that is the same, too, a number."""
    names = [table.name for table in tables]
    longer = [f"{n} ({f})" if names.count(n) > 1 and f else n for n, f in zip(names, folders, strict=True)]
    seen = [longer[: place + 1].count(name) for place, name in enumerate(longer)]
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
    """One page for groups of films: means, shares and differences per condition, then each film.

    `conditions`: CSV with the columns source and condition; None: every source is a condition of its own. Raises
    InputError when no film has a condition, or when the tables have different classes.
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
    page = Page(
        template="run.html.j2",
        title="Comparison: " + ", ".join(groups),
        subtitle=", ".join(f"{name}: {len(group)} film{'s' * (len(group) != 1)}" for name, group in groups.items()),
        scripts=("common.js", "static.js"),
        values={"sections": [section for section in sections if section["tables"]]},
        about=about_parts(read[0].metadata, inputs=inputs),
        problems=(*(text for table in read for text in table.problems), *problems),
    )
    return write_page(Path(out), page)


def _section(name: str, text: str, figures: list[Any], tables: list[Any]) -> dict[str, Any]:
    return {"name": name, "text": text, "figures": figures, "tables": tables, "faces": []}


def _chart(title: str, names: Sequence[str], estimates: Mapping[str, list[Estimate]], start: int) -> dict[str, Any]:
    rows = [
        (name, [(group, *_triple(values[start + number])) for group, values in estimates.items()])
        for number, name in enumerate(names)
    ]
    return {"caption": title, "svg": dot_chart(rows, title=title, x_label="mean over films, 95 % interval")}


def _triple(estimate: Estimate) -> tuple[float, float, float]:
    return estimate.value, estimate.low, estimate.high


def _charts(names: list[str], estimates: Mapping[str, list[Estimate]], words: tuple[str, str]) -> list[dict[str, Any]]:
    cut = len(EMOTIONS)
    labels = [name.removeprefix(SHARE_OF) for name in names[cut:]]
    return [_chart(words[0], names[:cut], estimates, 0), _chart(words[1], labels, estimates, cut)]


def _means_section(groups: Mapping[str, list[FilmMeans]], names: list[str], *, label: str) -> dict[str, Any]:
    estimates = {group: condition_means(films, seed=number) for number, (group, films) in enumerate(groups.items())}
    rows = [[name, *(_words(estimates[group][k]) for group in groups)] for k, name in enumerate(names)]
    figures = _charts(names, estimates, ("Mean probability of the emotions", f"Share of each {label}"))
    tables = [{"name": "", "head": ["measure", *groups], "rows": rows}]
    return _section("Conditions", _METHOD.format(label), figures, tables)


def _differences_section(groups: Mapping[str, list[FilmMeans]], names: list[str]) -> dict[str, Any]:
    (first, reference), *others = groups.items()
    estimates = {f"{group} - {first}": differences(films, reference, seed=n) for n, (group, films) in enumerate(others)}
    rows = [[name, *(_words(values[k], mark=True) for values in estimates.values())] for k, name in enumerate(names)]
    if not estimates:
        return _section("Differences", "", [], [])
    figures = _charts(names, estimates, ("Differences of the emotions", "Differences of the shares"))
    text = "A star: the interval does not hold 0."
    return _section("Differences", text, figures, [{"name": "", "head": ["measure", *estimates], "rows": rows}])


def _words(estimate: Estimate, *, mark: bool = False) -> str:
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
    return _section("Films", "", [], [table])
