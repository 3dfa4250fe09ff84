"""The charts of a training run: curves from its log, confusion and reliability from its scores."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from femae.labels import EMOTIONS
from femae.metrics.confusion import confusion
from femae.metrics.f1 import binary_f1, f1_per_class
from femae.metrics.hard_labels import top_emotion
from femae.metrics.reliability import reliability
from femae.report.parts.svg import Line, heat_map, line_chart
from femae.report.training_runs.files import RunLog, Scores

__all__ = ["curve_figures", "hard_classes", "running_mean", "score_figures", "score_tables"]

_NUM_BINS = 10


def running_mean(values: npt.NDArray[np.float64], *, width: int) -> npt.NDArray[np.float64]:
    """Mean over `width` neighbours, f64[n]; fewer at the ends."""
    if width <= 1 or len(values) < 2:
        return values
    known = np.isfinite(values)
    sums = np.convolve(np.where(known, values, 0), np.ones(width), "same")
    counts = np.convolve(known.astype(float), np.ones(width), "same")
    return np.asarray(sums / np.maximum(counts, 1), np.float64)


def curve_figures(log: RunLog) -> list[dict[str, Any]]:
    """Loss, learning rate, F1 per epoch, speed and what it took; only what the log holds."""
    figures = []
    for caption, lines, x_label, y_label, y_range in (
        ("Loss", _loss_lines(log), "epoch", "loss", None),
        ("Learning rate", _step_lines(log, "lr", "learning rate"), "epoch", "learning rate", None),
        ("F1 on the validation samples", _f1_lines(log), "epoch", "F1", (0.0, 1.0)),
        ("Size of the gradient", _step_lines(log, "grad_norm", "norm"), "epoch", "norm", None),
        ("Speed", _step_lines(log, "pictures_per_s", "pictures a second"), "epoch", "pictures a second", None),
        ("Use of the device", _use_lines(log), "epoch", "share", (0.0, 1.0)),
        ("Memory", _step_lines(log, "memory_mb", "memory"), "epoch", "MB", None),
    ):
        lines = [line for line in lines if np.isfinite(line.ys).any()]
        if lines:
            chart = line_chart(lines, title=caption, x_label=x_label, y_label=y_label, y_range=y_range)
            figures.append({"caption": caption, "svg": chart})
    return figures


def _step_lines(log: RunLog, name: str, word: str) -> list[Line]:
    return [Line(name=word, xs=_epochs_of_steps(log), ys=log.column("steps", name), place=4)]


def _use_lines(log: RunLog) -> list[Line]:
    waits, uses = _step_lines(log, "data_wait", "waiting for data"), _step_lines(log, "mfu", "arithmetic used")
    return [*waits, *(Line(name=line.name, xs=line.xs, ys=line.ys.clip(max=1.0), place=5) for line in uses)]


def _epochs_of_steps(log: RunLog) -> npt.NDArray[np.float64]:
    epochs = log.column("steps", "epoch")
    return epochs if np.isfinite(epochs).any() else log.column("steps", "step")


def _loss_lines(log: RunLog) -> list[Line]:
    xs, loss = _epochs_of_steps(log), log.column("steps", "loss")
    width = max(1, len(loss) // 60)
    lines = [Line(name="steps, running mean", xs=xs, ys=running_mean(loss, width=width), place=1)]
    ends = log.column("epochs", "epoch")
    lines.append(
        Line(name="training, mean of the epoch", xs=ends, ys=log.column("epochs", "loss"), place=4, marks=True)
    )
    lines.append(Line(name="validation", xs=ends, ys=log.column("epochs", "val.loss"), place=5, marks=True))
    return lines


def _f1_lines(log: RunLog) -> list[Line]:
    xs, names = log.column("epochs", "epoch"), list(EMOTIONS)
    for record in log.epochs:
        found = (record.get("val") or {}).get("f1") or {}
        names += [name for name in found if name not in names]
    lines = [Line(name="mean", xs=xs, ys=log.column("epochs", "val.macro_f1"), place=6, marks=True)]
    places = (0, 1, 2, 3, 4, 5, 7, *range(8, 200))
    for place, name in zip(places, names, strict=False):
        lines.append(Line(name=name, xs=xs, ys=log.column("epochs", f"val.f1.{name}"), place=place, marks=True))
    return lines


def hard_classes(scores: Scores) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Predicted and true emotion i64[n] each of the samples that have one clear true emotion."""
    true = top_emotion(scores.targets, mask=scores.mask)
    known = true >= 0
    return scores.probs.argmax(1)[known].astype(np.int64), true[known]


def score_figures(emotions: Scores | None, units: Scores | None) -> list[dict[str, Any]]:
    """Confusion of the emotions, reliability of every label."""
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
        words = [f"said {p:.2f}, was {t:.2f}, {n:,} samples" for p, t, n in _rows(bins, number, counts)]
        xs, ys = bins.mean_prob[number], bins.mean_target[number]
        lines.append(Line(name=name, xs=xs, ys=ys, marks=True, words=words))
    return line_chart(
        lines, title=caption, x_label="mean probability", y_label="mean target", y_range=(0.0, 1.0), diagonal=True
    )


def _rows(bins: Any, number: int, counts: npt.NDArray[np.int64]) -> Sequence[tuple[float, float, int]]:
    return list(zip(bins.mean_prob[number], bins.mean_target[number], counts, strict=True))


def score_tables(emotions: Scores | None, units: Scores | None) -> list[dict[str, Any]]:
    """F1 and calibration error per label."""
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
