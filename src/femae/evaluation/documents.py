"""Formats the figures of an evaluation as JSON, CSV tables and a Markdown page, and prints the main ones."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from femae.evaluation.expressions import ExpressionRates
from femae.evaluation.measure import ClassFigures, Evaluation, Interval, LabelFigures, Measures, Subgroup
from femae.metrics.calibration import Reliability
from femae.metrics.tables import markdown_table

__all__ = ["as_json", "csv_tables", "markdown_report", "mean_of_defined", "rates_of", "show", "summary_of"]

Rows = list[list[str]]
_MAX_LABELS = 12


def _plain(value: float) -> float | None:
    """A JSON number, rounded; NaN (undefined) becomes null."""
    return None if math.isnan(value) else round(float(value), 6)


def _pair(value: Interval) -> list[float] | None:
    return None if math.isnan(value[0]) else [round(value[0], 6), round(value[1], 6)]


def _by_name(names: Sequence[str], values: Any) -> dict[str, Any]:
    return {
        name: (_plain(float(value)) if isinstance(value, float) else int(value))
        for name, value in zip(names, values.tolist(), strict=True)
    }


def _classes_json(figures: ClassFigures) -> dict[str, Any]:
    return {
        "num": figures.num,
        "num_missed": figures.num_missed,
        "num_groups": figures.num_groups,
        "accuracy": _plain(figures.accuracy),
        "accuracy_interval": _pair(figures.accuracy_interval),
        "macro_f1": _plain(figures.macro_f1),
        "macro_f1_interval": _pair(figures.macro_f1_interval),
        "macro_f1_present": _plain(figures.macro_f1_present),
        "macro_f1_present_interval": _pair(figures.macro_f1_present_interval),
        "present": [name for name, is_present in zip(figures.names, figures.present, strict=True) if is_present],
        "f1": _by_name(figures.names, figures.f1),
        "f1_intervals": {name: _pair(pair) for name, pair in zip(figures.names, figures.f1_intervals, strict=True)},
        "support": _by_name(figures.names, figures.support),
        "confusion": {"columns": [*figures.names, "(missed)"], "rows": figures.confusion.tolist()},
    }


def _expression_json(measures: Measures) -> dict[str, Any] | None:
    classes, rates = measures.expression, measures.expression_rates
    if classes is None or rates is None:
        return None
    return _classes_json(classes) | {
        "compound_said_of_others": _plain(rates.compound_said_of_others),
        "compound_said_of_others_interval": _pair(rates.compound_said_of_others_interval),
        "compound_found": _plain(rates.compound_found),
        "compound_found_interval": _pair(rates.compound_found_interval),
        "ece": _plain(rates.ece),
        "ece_interval": _pair(rates.ece_interval),
    }


def _labels_json(figures: LabelFigures) -> dict[str, Any]:
    names = figures.names
    return {
        "num_missed": figures.num_missed,
        "num_known": _by_name(names, figures.num_known),
        "num_positive": _by_name(names, figures.num_positive),
        "threshold": _by_name(names, figures.thresholds),
        "f1": _by_name(names, figures.f1),
        "mean_f1": _plain(figures.mean_f1),
        "mean_f1_interval": _pair(figures.mean_f1_interval),
        "average_precision": _by_name(names, figures.average_precision),
        "mean_average_precision": _plain(mean_of_defined(figures.average_precision)),
        "auroc": _by_name(names, figures.auroc),
        "mean_auroc": _plain(mean_of_defined(figures.auroc)),
        "ece": _by_name(names, figures.bins.ece),
        "mean_ece": _plain(mean_of_defined(figures.bins.ece)),
        **_intervals_json("average_precision", names, figures.average_precision_intervals),
        **_intervals_json("auroc", names, figures.auroc_intervals),
        **_intervals_json("ece", names, figures.ece_intervals),
        "best_threshold_on_these_samples": _by_name(names, figures.best_thresholds),
        "best_f1_on_these_samples": _by_name(names, figures.best_f1),
    }


def _intervals_json(figure: str, names: Sequence[str], intervals: Sequence[Interval]) -> dict[str, Any]:
    *each, mean = map(_pair, intervals)
    return {f"{figure}_intervals": dict(zip(names, each, strict=True)), f"mean_{figure}_interval": mean}


def mean_of_defined(values: Any) -> float:
    """Mean of the values that are not NaN; NaN if there are none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")


def as_json(measures: Measures) -> dict[str, Any]:
    """All figures as JSON values; null for undefined ones."""
    return {
        "num_samples": measures.num,
        "num_found": measures.num_found,
        "emotions": measures.emotions and _classes_json(measures.emotions),
        "compound": measures.compound and _classes_json(measures.compound),
        "expression": _expression_json(measures),
        "emotion_labels": measures.labels and _labels_json(measures.labels),
        "action_units": measures.units and _labels_json(measures.units),
    }


def _number(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.4f}"


def _interval(value: Interval) -> str:
    return "" if math.isnan(value[0]) else f"{value[0]:.4f} to {value[1]:.4f}"


def _class_rows(figures: ClassFigures) -> Rows:
    rows = [["class", "samples", "F1", "95 % interval"]]
    for index, name in enumerate(figures.names):
        rows.append(
            [name, str(figures.support[index]), _number(figures.f1[index]), _interval(figures.f1_intervals[index])]
        )
    return rows


def _label_rows(figures: LabelFigures) -> Rows:
    ranked = {
        "average precision": (figures.average_precision, figures.average_precision_intervals),
        "AUROC": (figures.auroc, figures.auroc_intervals),
        "ECE": (figures.bins.ece, figures.ece_intervals),
    }
    heads = [part for name in ranked for part in (name, "95 % interval")]
    rows = [["label", "known", "positive", "threshold", "F1", *heads]]
    for index, name in enumerate(figures.names):
        row = [name, str(figures.num_known[index]), str(figures.num_positive[index])]
        row += [_number(float(figures.thresholds[index])), _number(float(figures.f1[index]))]
        for values, spans in ranked.values():
            row += [_number(float(values[index])), _interval(spans[index])]
        rows.append(row)
    mean = ["mean", "", "", "", _number(figures.mean_f1)]
    for values, spans in ranked.values():
        mean += [_number(mean_of_defined(values)), _interval(spans[-1])]
    return [*rows, mean]


def _confusion_rows(figures: ClassFigures) -> Rows:
    rows = [["true \\ predicted", *figures.names, "(missed)"]]
    rows += [[name, *map(str, row)] for name, row in zip(figures.names, figures.confusion.tolist(), strict=True)]
    return rows


def _reliability_rows(names: Sequence[str], bins: Reliability) -> Rows:
    rows = [["label", "from", "to", "samples", "mean probability", "mean target"]]
    edges = bins.edges
    for index, name in enumerate(names):
        for part, count in enumerate(bins.count[index].tolist()):
            if count:
                means = (bins.mean_prob[index, part], bins.mean_target[index, part])
                ends = (f"{edges[part]:.4f}", f"{edges[part + 1]:.4f}")
                rows.append([name, *ends, str(count), *(f"{mean:.6f}" for mean in means)])
    return rows


def _subgroup_rows(column: str, parts: Sequence[Subgroup]) -> Rows:
    head = [column, "samples", "missed", "six: n", "accuracy", "macro-F1 (present)", "95 % interval"]
    rows = [
        [
            *head,
            "label: n",
            "accuracy",
            "macro-F1 (present)",
            "95 % interval",
            "compound: n",
            "P_CE (present)",
            "95 % interval",
            "mean ECE",
        ]
    ]
    for part in parts:
        found = part.measures
        row = [part.name, str(found.num), str(found.num - found.num_found)]
        for figures, with_accuracy in ((found.emotions, True), (found.expression, True), (found.compound, False)):
            if figures is None:
                row += ["0", *["-"] * (2 + with_accuracy)]
            else:
                accuracy = [_number(figures.accuracy)] * with_accuracy
                last = [_number(figures.macro_f1_present), _interval(figures.macro_f1_present_interval)]
                row += [str(figures.num), *accuracy, *last]
        row.append("-" if found.labels is None else _number(mean_of_defined(found.labels.bins.ece)))
        rows.append(row)
    return rows


def csv_tables(measures: Measures, by: Mapping[str, Sequence[Subgroup]]) -> dict[str, Rows]:
    """Tables by file name without suffix; the first row is the header."""
    out: dict[str, Rows] = {}
    blocks = {"emotions": measures.emotions, "compound": measures.compound, "expression": measures.expression}
    for name, figures in blocks.items():
        if figures is not None:
            out[name], out[f"confusion-{name}"] = _class_rows(figures), _confusion_rows(figures)
    for name, labels in (("emotion-labels", measures.labels), ("action-units", measures.units)):
        if labels is not None:
            out[name] = _label_rows(labels)
            suffix = "" if name == "emotion-labels" else "-action-units"
            out[f"reliability{suffix}"] = _reliability_rows(labels.names, labels.bins)
    if measures.expression_rates is not None:
        out["reliability-expression"] = _reliability_rows(["expression"], measures.expression_rates.bins)
    for column, parts in by.items():
        out[f"by-{_file_name(column)}"] = _subgroup_rows(column, parts)
    return out


def _file_name(column: str) -> str:
    return "".join(mark if mark.isalnum() or mark in "-_" else "_" for mark in column)


def summary_of(figures: ClassFigures, *, compound: bool) -> list[tuple[str, str]]:
    """Names and values of the main figures of a block."""
    what = "P_CE, macro-F1" if compound else "macro-F1"
    present = int(figures.present.sum())
    lines = [("samples", f"{figures.num:,} of {figures.num_groups:,} groups, {figures.num_missed:,} missed")]
    for name, value, span in (
        ("accuracy", figures.accuracy, figures.accuracy_interval),
        (f"{what} over all {len(figures.names)} classes", figures.macro_f1, figures.macro_f1_interval),
        (f"{what} over the {present} present", figures.macro_f1_present, figures.macro_f1_present_interval),
    ):
        around = _interval(span)
        lines.append((name, _number(value) + (f" ({around})" if around else "")))
    return lines


def rates_of(rates: ExpressionRates) -> list[tuple[str, str]]:
    """Names and values of the figures of the label for people besides accuracy and F1."""
    lines = []
    for name, value, span in (
        ("other faces called a compound", rates.compound_said_of_others, rates.compound_said_of_others_interval),
        ("compounds found", rates.compound_found, rates.compound_found_interval),
        (f"ECE in {rates.bins.count.shape[1]} bins", rates.ece, rates.ece_interval),
    ):
        around = _interval(span)
        lines.append((name, _number(value) + (f" ({around})" if around else "")))
    return lines


def markdown_report(
    found: Evaluation, *, title: str, facts: Mapping[str, str], notes: Sequence[str], figures: Sequence[str]
) -> str:
    """The text of report.md: facts, main figures, tables, links to pictures."""
    measures, found_only = found.measures, found.found_only
    parts = [f"# {title}\n", "".join(f"- {name}: {value}\n" for name, value in facts.items())]
    parts += ["".join(f"- {note}\n" for note in notes)] * bool(notes)
    heads = {
        "expression": "One label for each face",
        "emotions": "One of six emotions",
        "compound": "Compound expressions",
    }
    for key, head in heads.items():
        block: ClassFigures | None = getattr(measures, key)
        if block is None:
            continue
        parts.append(f"## {head}\n")
        parts.append("".join(f"- {name}: {text}\n" for name, text in summary_of(block, compound=key == "compound")))
        if key == "expression" and measures.expression_rates is not None:
            parts[-1] += "".join(f"- {name}: {text}\n" for name, text in rates_of(measures.expression_rates))
        other: ClassFigures | None = getattr(found_only, key) if found_only is not None else None
        if other is not None and block.num_missed:
            lines = summary_of(other, compound=key == "compound")
            parts.append("Only faces that were found:\n\n" + "".join(f"- {name}: {text}\n" for name, text in lines))
        rows, cells = _class_rows(block), _confusion_rows(block)
        parts += [markdown_table(rows[0], rows[1:]), markdown_table(cells[0], cells[1:])]
    for head, labels in (("Each emotion by itself", measures.labels), ("Action units", measures.units)):
        if labels is not None:
            rows = _label_rows(labels)
            parts += [f"## {head}\n", markdown_table(rows[0], rows[1:]), _undefined(labels)]
    for column, groups in found.by.items():
        rows = _subgroup_rows(column, groups)
        parts += [f"## By {column}\n", markdown_table(rows[0], rows[1:])]
    parts += ["".join(f"![{name}]({name})\n" for name in figures)] * bool(figures)
    return "\n".join(part for part in parts if part)


def _undefined(figures: LabelFigures) -> str:
    """A sentence about labels without a positive sample, or nothing."""
    without = [name for name, count in zip(figures.names, figures.num_positive, strict=True) if not count]
    if not without:
        return ""
    return f"Undefined: no sample shows {', '.join(without)}; means are over the labels that have a value.\n"


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
    for index, name in enumerate(head):
        table.add_column(escape(name), justify="left" if index == 0 else "right", no_wrap=True)
    return table


def _show_labels(console: Console, head: str, figures: LabelFigures | None) -> None:
    if figures is None:
        return
    console.print(head, style="bold")
    table = _table(["  label", "positive", "F1", "AP", "AUROC", "ECE"])
    columns = (figures.f1, figures.average_precision, figures.auroc, figures.bins.ece)
    for index, name in enumerate(figures.names[:_MAX_LABELS]):
        table.add_row(f"  {name}", str(figures.num_positive[index]), *(_short(float(one[index])) for one in columns))
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
        found = part.measures
        values = [found.expression.accuracy if found.expression else math.nan]
        values += [figures.macro_f1_present if figures else math.nan for figures in (found.emotions, found.compound)]
        values.append(mean_of_defined(found.labels.bins.ece) if found.labels else math.nan)
        counts = [str(found.num), str(found.num - found.num_found)]
        table.add_row(f"  {escape(part.name)}", *counts, *(_short(value) for value in values))
    console.print(table)


def _short(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
