"""`femae report --figures`: the figures of a table of predictions or of a training run, as files."""

from pathlib import Path

import numpy as np

from femae.config.report import ReportConfig
from femae.errors import InputError
from femae.labels import EMOTIONS
from femae.metrics.confusion import confusion
from femae.report.figures.draw import confusion_figure, curves_figure, save, shares_figure, timeline_figure
from femae.report.parts.tables import read_predictions
from femae.report.parts.tracks import split_tracks
from femae.report.training_runs.charts import hard_classes
from femae.report.training_runs.files import folder_kind, read_log, read_scores

__all__ = ["write_figures"]


def write_figures(path: Path, *, config: ReportConfig) -> list[Path]:
    """`<out>/<stem>-<figure>.<format>` for one input; returns the paths.

    A film's table: shares-all and one timeline per face. A run: loss, F1, confusion; a k-fold set: confusion. Raises
    InputError when there is nothing to draw.
    """
    paths = _run_figures(path, config) if path.is_dir() else _table_figures(path, config)
    if not paths:
        raise InputError(f"'{path}' holds nothing that can be drawn: no faces, no log, no scores")
    return paths


def _table_figures(path: Path, config: ReportConfig) -> list[Path]:
    table = read_predictions(path, labels=config.labels)
    if not table.is_film:
        raise InputError(f"'{path}' is a table of pictures: figures over time need the table of a film")
    tracks, paths = split_tracks(table), []
    if tracks:
        longest = sorted(tracks, key=lambda track: -len(track.rows))[:4]
        paths += save(shares_figure(longest), config.out, stem=f"{path.stem}-shares", formats=config.formats)
    for track in tracks:
        stem = f"{path.stem}-timeline-{track.face_id}"
        paths += save(timeline_figure(track), config.out, stem=stem, formats=config.formats)
    return paths


def _run_figures(folder: Path, config: ReportConfig) -> list[Path]:
    stem, paths = folder.resolve().name, []
    log = read_log(folder / "log.jsonl")
    epochs = log.column("epochs", "epoch")
    loss = [
        ("training", epochs, log.column("epochs", "loss")),
        ("validation", epochs, log.column("epochs", "val.loss")),
    ]
    names = ["macro_f1", *(f"f1.{emotion}" for emotion in EMOTIONS)]
    f1 = [(n.removeprefix("f1.").replace("macro_f1", "mean"), epochs, log.column("epochs", f"val.{n}")) for n in names]
    for name, lines, y_label, y_range in (("loss", loss, "loss", None), ("f1", f1, "F1", (0.0, 1.0))):
        lines = [line for line in lines if np.isfinite(line[2]).any()]
        if lines:
            figure = curves_figure(lines, y_label=y_label, y_range=y_range)
            paths += save(figure, config.out, stem=f"{stem}-{name}", formats=config.formats)
    scores_file = "oof.parquet" if folder_kind(folder) == "kfold" else "scores.parquet"
    emotions, _ = read_scores(folder / scores_file)
    if emotions is not None:
        pred, true = hard_classes(emotions)
        counts = confusion(pred, true=true, num_classes=len(EMOTIONS))[:, :-1]
        figure = confusion_figure(counts, EMOTIONS)
        paths += save(figure, config.out, stem=f"{stem}-confusion", formats=config.formats)
    return paths
