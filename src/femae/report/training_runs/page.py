"""The pages of a training run, a k-fold set and an ablation: curves, confusion matrices, reliability diagrams."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from femae.errors import InputError
from femae.labels import EMOTIONS
from femae.metrics.calibration import reliability
from femae.metrics.f1 import binary_f1, confusion, f1_per_class
from femae.report.parts.page import Page, data_uri, page_section, sections_page, write_page
from femae.report.parts.svg import Line, dot_chart, heat_map, line_chart
from femae.report.training_runs.files import (
    RunLog,
    Scores,
    folder_kind,
    hard_classes,
    read_log,
    read_object,
    read_scores,
)

__all__ = ["curve_figures", "running_mean", "score_figures", "score_tables", "write_run_report"]

_MAX_FACES = 24
_INIT_TEXTS = {"loaded": "taken over", "fresh": "fresh", "left_out": "left out"}
_NUM_BINS = 10


def write_run_report(folder: str | Path, *, out: str | Path) -> Path:
    """Write one HTML file to `out` from the folder of a run, a k-fold set or an ablation; returns the path.

    Raises InputError for any other folder or a damaged file, OutputError, MissingDependencyError (jinja2).
    """
    path = Path(folder)
    kind = folder_kind(path)
    if not kind:
        raise InputError(
            f"'{path}' is not the folder of a training run: expected log.jsonl, kfold.json or ablation.json in it"
        )
    page = {"run": _run_page, "kfold": _kfold_page, "ablation": _ablation_page}[kind](path)
    return write_page(Path(out), page)


def _run_page(folder: Path) -> Page:
    log, about = read_log(folder / "log.jsonl"), read_object(folder / "run.json")
    emotions, units = read_scores(folder / "scores.parquet")
    faces, num_faces = _faces(folder / "reconstructions.parquet")
    shown = f"{len(faces)} of {num_faces:,} faces: masked, reconstructed, original." if faces else ""
    sections = [
        page_section("Curves", figures=curve_figures(log)),
        page_section("Epochs", tables=_epoch_table(log)),
        page_section(
            "Validation samples at the best epoch",
            figures=score_figures(emotions, units),
            tables=score_tables(emotions, units),
        ),
        page_section("Reconstructions", text=shown, faces=faces),
    ]
    problems = [f"{log.num_bad} line{'s' * (log.num_bad != 1)} of the log could not be read."] if log.num_bad else []
    return sections_page(
        folder.resolve().name,
        subtitle=_run_subtitle(log, about),
        sections=sections,
        about=_run_about(folder, about, log),
        problems=problems,
    )


def _run_subtitle(log: RunLog, about: Mapping[str, Any]) -> str:
    parts = [f"stage {about['stage']}"] if about.get("stage") else []
    if isinstance(about.get("num_params"), int):
        parts.append(f"{about['num_params'] / 1e6:.2f} M parameters")
    parts.append(f"{len(log.epochs)} epoch{'s' * (len(log.epochs) != 1)}")
    best = log.column("epochs", "val.macro_f1")
    if np.isfinite(best).any():
        number = int(np.nanargmax(best))
        parts.append(f"best mean F1 {best[number]:.3f} in epoch {log.epochs[number].get('epoch')}")
    return ", ".join(parts)


def _epoch_table(log: RunLog) -> list[dict[str, Any]]:
    if not log.epochs:
        return []
    names = {"training loss": "loss", "validation loss": "val.loss", "mean F1": "val.macro_f1", "seconds": "seconds"}
    columns = {word: log.column("epochs", name) for word, name in names.items()}
    columns = {word: values for word, values in columns.items() if np.isfinite(values).any()}
    rows = []
    for number, record in enumerate(log.epochs):
        cells = [_cell(values[number], whole=word == "seconds") for word, values in columns.items()]
        rows.append([str(record.get("epoch")), *cells])
    return [{"name": "", "head": ["epoch", *columns], "rows": rows, "long": len(rows) > 12}]


def _cell(value: float, *, whole: bool = False) -> str:
    return "" if not np.isfinite(value) else f"{value:,.0f}" if whole else f"{value:.4f}"


def _run_about(folder: Path, about: Mapping[str, Any], log: RunLog) -> list[dict[str, Any]]:
    rows = [(key, _format_init(value) if key == "start" else _format_value(value)) for key, value in about.items()]
    if log.num_resumes:
        rows.append(("resumed", f"{log.num_resumes} time{'s' * (log.num_resumes != 1)}"))
    parts: list[dict[str, Any]] = [{"name": "Run", "text": "", "rows": rows}]
    config = folder / "config.yaml"
    if config.is_file():
        parts.append(
            {"name": "Configuration", "text": config.read_text("utf-8", "replace"), "rows": [], "verbatim": True}
        )
    return parts


def _format_init(value: Any) -> str:
    """Number of tensors that were initialised from other weights, in words."""
    if not isinstance(value, Mapping):
        return "from scratch"
    counts = [f"{len(value[name])} tensors {text}" for name, text in _INIT_TEXTS.items() if name in value]
    return ", ".join(counts) + (", positions resampled" if value.get("resampled") else "")


def _format_value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_format_value(item)}" for key, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else "unknown" if value is None else str(value)


def _faces(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Up to 24 faces of a pretraining run, with three pictures each, and the total number."""
    if not path.is_file():
        return [], 0
    try:
        table = pq.read_table(path, columns=["key", "masked", "reconstructed", "original"])
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"'{path}' cannot be read: {str(error).splitlines()[0]}") from error
    faces = []
    for row in table.slice(0, _MAX_FACES).to_pylist():
        names = ("masked", "reconstructed", "original")
        pictures = [(name, data_uri(row[name], kind="image/png")) for name in names if row[name]]
        faces.append({"key": row["key"], "pictures": pictures})
    return faces, table.num_rows


def _kfold_page(folder: Path) -> Page:
    folds = read_object(folder / "kfold.json").get("folds") or []
    emotions, units = read_scores(folder / "oof.parquet")
    names = list(EMOTIONS) + sorted({name for fold in folds for name in fold.get("f1") or {}} - set(EMOTIONS))
    names = [name for name in names if any(name in (fold.get("f1") or {}) for fold in folds)]
    values = np.array(
        [[_float((f.get("f1") or {}).get(n)) for n in names] + [_float(f.get("macro_f1"))] for f in folds]
    )
    rows = [[f"fold {fold.get('fold')}", *map(_f1, line)] for fold, line in zip(folds, values, strict=True)]
    if len(folds):
        rows.append(["mean", *map(_f1, values.mean(0))])
        rows.append(["deviation", *map(_f1, values.std(0, ddof=1) if len(folds) > 1 else values.std(0))])
    sections = [
        page_section("Folds", tables=[{"name": "F1 per fold", "head": ["fold", *names, "mean"], "rows": rows}]),
        page_section("Curves", figures=_fold_curves(folder, folds)),
        page_section(
            "Out-of-fold scores",
            text="Each sample once, by the model that did not train on it." if emotions or units else "",
            figures=score_figures(emotions, units),
            tables=score_tables(emotions, units),
        ),
    ]
    mean = f", mean F1 {np.nanmean(values[:, -1]):.3f}" if len(folds) else ""
    return sections_page(folder.resolve().name, subtitle=f"{len(folds)} folds{mean}", sections=sections)


def _fold_curves(folder: Path, folds: list[dict[str, Any]]) -> list[dict[str, Any]]:
    figures = []
    for caption, name, y_range in (("Mean F1", "val.macro_f1", (0.0, 1.0)), ("Validation loss", "val.loss", None)):
        lines = []
        for fold in folds:
            log = read_log(folder / str(fold.get("run")) / "log.jsonl")
            ys = log.column("epochs", name)
            if np.isfinite(ys).any():
                lines.append(Line(name=f"fold {fold.get('fold')}", xs=log.column("epochs", "epoch"), ys=ys, marks=True))
        if lines:
            chart = line_chart(lines, title=caption, x_label="epoch", y_label=caption, y_range=y_range)
            figures.append({"caption": caption, "svg": chart})
    return figures


def _ablation_page(folder: Path) -> Page:
    rows = read_object(folder / "ablation.json").get("rows") or []
    cells, dots = [], []
    for row in rows:
        seeds = [_float(seed.get("macro_f1")) for seed in row.get("seeds") or []]
        mean, std = _float(row.get("mean")), _float(row.get("std"))
        cells.append([str(row.get("name")), _f1(mean), _f1(std), ", ".join(map(_f1, seeds))])
        dots.append((str(row.get("name")), [("mean and deviation over seeds", mean, mean - std, mean + std)]))
    caption = "Mean F1, with one deviation over the seeds to either side"
    chart = (
        [{"caption": caption, "svg": dot_chart(dots, title=caption, x_label="mean F1", from_zero=False)}]
        if dots
        else []
    )
    table = {"name": "", "head": ["setting", "mean F1", "deviation", "seeds"], "rows": cells}
    per_class = _ablation_classes(rows)
    sections = [page_section("Ablation", figures=chart, tables=[table, *per_class])]
    num_seeds = max((len(row.get("seeds") or []) for row in rows), default=0)
    subtitle = f"ablation: {len(rows)} settings, {num_seeds} seeds"
    return sections_page(folder.resolve().name, subtitle=subtitle, sections=sections)


def _ablation_classes(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """F1 per class, averaged over the seeds."""
    names = [n for n in EMOTIONS if any(n in (s.get("f1") or {}) for row in rows for s in row.get("seeds") or [])]
    if not names:
        return []
    body = []
    for row in rows:
        seeds = [seed.get("f1") or {} for seed in row.get("seeds") or []]
        means = [np.mean([_float(f1.get(name)) for f1 in seeds]) if seeds else float("nan") for name in names]
        body.append([str(row.get("name")), *(_f1(float(value)) for value in means)])
    return [{"name": "F1 per class, mean over the seeds", "head": ["setting", *names], "rows": body}]


def _float(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def _f1(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else ""


def running_mean(values: npt.NDArray[np.float64], *, width: int) -> npt.NDArray[np.float64]:
    """Moving average f64[n] over `width` neighbours, fewer at the ends; NaN is ignored."""
    if width <= 1 or len(values) < 2:
        return values
    known = np.isfinite(values)
    sums = np.convolve(np.where(known, values, 0), np.ones(width), "same")
    counts = np.convolve(known.astype(float), np.ones(width), "same")
    return np.asarray(sums / np.maximum(counts, 1), np.float64)


def curve_figures(log: RunLog) -> list[dict[str, Any]]:
    """Charts of loss, learning rate, F1, gradient norm, speed, utilisation and memory, as far as logged."""
    figures = []
    for caption, lines, x_label, y_label, y_range in (
        ("Loss", _loss_lines(log), "epoch", "loss", None),
        ("Learning rate", _step_lines(log, "lr", "learning rate"), "epoch", "learning rate", None),
        ("F1 on the validation samples", _f1_lines(log), "epoch", "F1", (0.0, 1.0)),
        ("Norm of the gradient", _step_lines(log, "grad_norm", "norm"), "epoch", "norm", None),
        ("Speed", _step_lines(log, "pictures_per_s", "pictures per second"), "epoch", "pictures per second", None),
        ("Device utilisation", _utilisation_lines(log), "epoch", "share", (0.0, 1.0)),
        ("Memory", _step_lines(log, "memory_mb", "memory"), "epoch", "MB", None),
    ):
        lines = [line for line in lines if np.isfinite(line.ys).any()]
        if lines:
            chart = line_chart(lines, title=caption, x_label=x_label, y_label=y_label, y_range=y_range)
            figures.append({"caption": caption, "svg": chart})
    return figures


def _step_lines(log: RunLog, name: str, word: str) -> list[Line]:
    return [Line(name=word, xs=_epochs_of_steps(log), ys=log.column("steps", name), style_index=4)]


def _utilisation_lines(log: RunLog) -> list[Line]:
    waits, uses = _step_lines(log, "data_wait", "waiting for data"), _step_lines(log, "mfu", "arithmetic used")
    return [*waits, *(Line(name=line.name, xs=line.xs, ys=line.ys.clip(max=1.0), style_index=5) for line in uses)]


def _epochs_of_steps(log: RunLog) -> npt.NDArray[np.float64]:
    epochs = log.column("steps", "epoch")
    return epochs if np.isfinite(epochs).any() else log.column("steps", "step")


def _loss_lines(log: RunLog) -> list[Line]:
    xs, loss = _epochs_of_steps(log), log.column("steps", "loss")
    width = max(1, len(loss) // 60)
    lines = [Line(name="steps, running mean", xs=xs, ys=running_mean(loss, width=width), style_index=1)]
    ends = log.column("epochs", "epoch")
    lines.append(
        Line(name="training, mean of the epoch", xs=ends, ys=log.column("epochs", "loss"), style_index=4, marks=True)
    )
    lines.append(Line(name="validation", xs=ends, ys=log.column("epochs", "val.loss"), style_index=5, marks=True))
    return lines


def _f1_lines(log: RunLog) -> list[Line]:
    xs, names = log.column("epochs", "epoch"), list(EMOTIONS)
    for record in log.epochs:
        found = (record.get("val") or {}).get("f1") or {}
        names += [name for name in found if name not in names]
    lines = [Line(name="mean", xs=xs, ys=log.column("epochs", "val.macro_f1"), style_index=6, marks=True)]
    indices = (0, 1, 2, 3, 4, 5, 7, *range(8, 200))
    for index, name in zip(indices, names, strict=False):
        lines.append(Line(name=name, xs=xs, ys=log.column("epochs", f"val.f1.{name}"), style_index=index, marks=True))
    return lines


def score_figures(emotions: Scores | None, units: Scores | None) -> list[dict[str, Any]]:
    """The confusion matrix of the emotions and the reliability diagrams of all labels."""
    figures = []
    if emotions is not None:
        pred, true = hard_classes(emotions)
        counts = confusion(pred, true=true, num_classes=len(EMOTIONS))[:, :-1]
        caption = f"Confusion, {len(true):,} samples with one clear emotion"
        figures.append({"caption": caption, "svg": heat_map(counts, rows=EMOTIONS, columns=EMOTIONS, title=caption)})
    for scores, word in ((emotions, "emotions"), (units, "action units")):
        if scores is not None:
            caption = f"Reliability of the {word}: how often a probability comes true"
            figures.append({"caption": caption, "svg": _reliability_chart(scores, caption)})
    return figures


def _reliability_chart(scores: Scores, caption: str) -> Any:
    bins = reliability(scores.probs, targets=scores.targets, mask=scores.mask, num_bins=_NUM_BINS)
    lines = []
    for number, name in enumerate(scores.names):
        counts = bins.count[number]
        tooltips = [f"predicted {p:.2f}, observed {t:.2f}, {n:,} samples" for p, t, n in _rows(bins, number, counts)]
        xs, ys = bins.mean_prob[number], bins.mean_target[number]
        lines.append(Line(name=name, xs=xs, ys=ys, marks=True, tooltips=tooltips))
    return line_chart(
        lines, title=caption, x_label="mean probability", y_label="mean target", y_range=(0.0, 1.0), diagonal=True
    )


def _rows(bins: Any, number: int, counts: npt.NDArray[np.int64]) -> Sequence[tuple[float, float, int]]:
    return list(zip(bins.mean_prob[number], bins.mean_target[number], counts, strict=True))


def score_tables(emotions: Scores | None, units: Scores | None) -> list[dict[str, Any]]:
    """Tables of F1 and calibration error per label."""
    tables = []
    if emotions is not None:
        pred, true = hard_classes(emotions)
        f1 = f1_per_class(pred, true=true, num_classes=len(EMOTIONS))
        present = np.bincount(true, minlength=len(EMOTIONS))
        tables.append(_table("Emotions", emotions, f1, present, "F1 as a single class"))
    if units is not None:
        f1 = binary_f1(units.probs, targets=units.targets, mask=units.mask)
        present = ((units.targets >= 0.5) & units.mask).sum(0)
        tables.append(_table("Action units", units, f1, present, "F1 at 0.5"))
    return tables


def _table(
    name: str, scores: Scores, f1: npt.NDArray[np.float64], present: npt.NDArray[Any], word: str
) -> dict[str, Any]:
    bins = reliability(scores.probs, targets=scores.targets, mask=scores.mask, num_bins=_NUM_BINS)
    rows = [
        [label, f"{int(count):,}", f"{value:.3f}", f"{error:.3f}"]
        for label, count, value, error in zip(scores.names, present, f1, bins.ece, strict=True)
    ]
    rows.append(["mean", "", f"{np.nanmean(f1):.3f}", f"{np.nanmean(bins.ece):.3f}"])
    return {"name": name, "head": ["label", "present", word, "calibration error (ECE)"], "rows": rows}
