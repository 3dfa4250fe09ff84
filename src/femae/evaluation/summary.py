"""The main figures on screen; the files have all of them."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from femae.evaluation.documents import mean_of_defined, rates_of, summary_of
from femae.evaluation.measure import ClassFigures, LabelFigures, Measures
from femae.evaluation.subgroups import Subgroup

__all__ = ["show"]

_MOST_LABELS = 12


def show(measures: Measures, *, by: Mapping[str, Sequence[Subgroup]], notes: Sequence[str], out: Path) -> None:
    """Print notes, main figures, and a table per label set and subgroup column."""
    console = Console(soft_wrap=True, highlight=False)
    for note in notes:
        console.print(f"note: {note}", markup=False)
    _show_classes(console, "one label for each face", measures.expression, compound=False)
    if measures.expression_rates is not None:
        for name, text in rates_of(measures.expression_rates):
            console.print(f"  {name}: {text}", markup=False)
    _show_classes(console, "one of six emotions", measures.emotions, compound=False)
    _show_classes(console, "compound", measures.compound, compound=True)
    _show_labels(console, "each emotion by itself", measures.labels)
    _show_labels(console, "action units", measures.units)
    for column, parts in by.items():
        _show_subgroups(console, column, parts)
    console.print(f"-> {out}", markup=False)


def _show_classes(console: Console, head: str, figures: ClassFigures | None, *, compound: bool) -> None:
    if figures is None:
        return
    console.print(head, style="bold")
    for name, text in summary_of(figures, compound=compound):
        console.print(f"  {name}: {text}", markup=False)
    rows = zip(figures.names, figures.f1, figures.support, strict=True)
    console.print("  F1: " + ", ".join(f"{name} {f1:.3f} (n {count})" for name, f1, count in rows), markup=False)


def _table(head: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, show_edge=False)
    for place, name in enumerate(head):
        table.add_column(escape(name), justify="left" if place == 0 else "right", no_wrap=True)
    return table


def _show_labels(console: Console, head: str, figures: LabelFigures | None) -> None:
    if figures is None:
        return
    console.print(head, style="bold")
    table = _table(["  label", "positive", "F1", "AP", "AUROC", "ECE"])
    columns = (figures.f1, figures.average_precision, figures.auroc, figures.bins.ece)
    for place, name in enumerate(figures.names[:_MOST_LABELS]):
        table.add_row(f"  {name}", str(figures.num_positive[place]), *(_short(float(one[place])) for one in columns))
    means = (figures.mean_f1, *(mean_of_defined(column) for column in columns[1:]))
    table.add_row("  mean", "", *map(_short, means))
    console.print(table)
    if not figures.num_positive.all():
        without = np.array(figures.names)[figures.num_positive == 0].tolist()
        console.print(f"  undefined (-): no sample shows {', '.join(without)}", markup=False)


def _show_subgroups(console: Console, column: str, parts: Sequence[Subgroup]) -> None:
    console.print(f"by {column}", style="bold", markup=False)
    table = _table([f"  {column}", "samples", "missed", "label", "macro-F1", "P_CE", "ECE"])
    for part in parts:
        got = part.measures
        values = [got.expression.accuracy if got.expression else math.nan]
        values += [figures.macro_f1_present if figures else math.nan for figures in (got.emotions, got.compound)]
        values.append(mean_of_defined(got.labels.bins.ece) if got.labels else math.nan)
        table.add_row(
            f"  {escape(part.name)}", str(got.num), str(got.num - got.num_found), *(_short(value) for value in values)
        )
    console.print(table)


def _short(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
