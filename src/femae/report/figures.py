"""Figures for print, from a table of predictions or a training run (`femae report --figures`).

They are one or two columns wide (85 or 178 mm), with 8 point text and embedded TrueType fonts.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, ParamSpec

import numpy as np
import numpy.typing as npt

from femae.config.report import ReportConfig
from femae.errors import InputError, MissingDependencyError, OutputError
from femae.files import replacing
from femae.labels import EMOTIONS
from femae.metrics.f1 import confusion
from femae.report.parts.series import OKABE_ITO, compound_style, emotion_style, is_light
from femae.report.parts.tables import read_predictions
from femae.report.parts.tracks import Track, find_gaps, frame_times, parts_of, split_tracks, usual_step_s
from femae.report.training_runs.files import folder_kind, hard_classes, read_log, read_scores
from femae.video.palette import label_styles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "ONE_COLUMN_MM",
    "TWO_COLUMNS_MM",
    "confusion_figure",
    "curves_figure",
    "save",
    "shares_figure",
    "timeline_figure",
    "write_figures",
]

ONE_COLUMN_MM: Final = 85.0
TWO_COLUMNS_MM: Final = 178.0
_STYLE: Final[Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "font.family": "DejaVu Sans",
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.0,
    "lines.markersize": 3.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "femae",
    "savefig.dpi": 600,
}
_MARKERS: Final = "osvDX^P*"
_MARKERS_PER_LINE: Final = 7

_Arguments = ParamSpec("_Arguments")


def _in_style(draw: Callable[_Arguments, "Figure"]) -> Callable[_Arguments, "Figure"]:
    """Decorator: draw with the settings for print. Raises MissingDependencyError without matplotlib."""

    @wraps(draw)
    def drawn(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> "Figure":
        try:
            import matplotlib
        except ImportError as error:
            raise MissingDependencyError(
                "figures need the package matplotlib, which is not installed: pip install 'femae[report]'"
            ) from error
        with matplotlib.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return drawn


def _new_figure(width_mm: float, height_mm: float, **layout: Any) -> tuple["Figure", Any]:
    """A figure, which needs no display, and its axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_mm / 25.4, height_mm / 25.4), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(squeeze=False, **layout)


def save(figure: "Figure", folder: Path, *, stem: str, formats: Sequence[str]) -> list[Path]:
    """Write `<folder>/<stem>.<format>` for each format; equal figures give equal files. Raises OutputError."""
    import matplotlib

    paths = []
    for kind in formats:
        path = folder / f"{stem}.{kind}"
        metadata = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(kind)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with matplotlib.rc_context(_STYLE), replacing(path) as partial:
                figure.savefig(partial, format=kind, metadata=metadata)
        except OSError as error:
            raise OutputError(f"the figure '{path}' cannot be written: {error.strerror or error}") from error
        paths.append(path)
    return paths


def _outline(colours: Sequence[str]) -> list[Any]:
    """Path effects: a darker edge for lines that are too light for paper."""
    from matplotlib.patheffects import Normal, Stroke

    return [Stroke(linewidth=1.5, foreground="0.35"), Normal()] if any(map(is_light, colours)) else []


def _draw_series(
    axis: Any, times: npt.NDArray[np.float64], values: npt.NDArray[np.float64], styles: Sequence[dict[str, Any]]
) -> None:
    """A line per column; a compound alternates its two colours along the line and in the markers."""
    step = max(1, len(times) // _MARKERS_PER_LINE)
    for number, style in enumerate(styles):
        first, second = style["colours"][0], style["colours"][-1]
        axis.plot(
            times,
            values[:, number],
            color=first,
            label=style["name"],
            path_effects=_outline(style["colours"]),
            marker=_MARKERS[number % len(_MARKERS)],
            markevery=(number * step // len(styles), step),
            markeredgecolor="0.35",
            markeredgewidth=0.4,
            fillstyle="full" if second == first else "top",
            markerfacecoloralt=second,
        )
        if second != first:
            axis.plot(times, values[:, number], color=second, dashes=(4, 4))


def _draw_strip(axis: Any, track: Track, all_times: npt.NDArray[np.float64]) -> None:
    """The expression over time: compounds in two halves, `none` thin; the legend leaves out single emotions."""
    from matplotlib.legend_handler import HandlerTuple
    from matplotlib.patches import Patch

    table, frames = track.table, track.frames
    label, ends = table.label[track.rows], np.append(all_times, all_times[-1] + usual_step_s(all_times))
    cuts = np.flatnonzero((np.diff(label) != 0) | (np.diff(frames) > 1))
    starts, stops = np.r_[0, cuts + 1], np.r_[cuts, len(frames) - 1]
    entries: list[tuple[Any, str]] = []
    for number in np.unique(label[label >= 0]):
        (style,) = label_styles([table.names[number]], table.compounds)
        selected = label[starts] == number
        spans = [
            (ends[frames[a] - 1], ends[frames[b]] - ends[frames[a] - 1]) for a, b in zip(starts, stops, strict=True)
        ]
        bottom, height = (0.4, 0.2) if style["quiet"] else (0.0, 1.0)
        part = height / len(style["colours"])
        for index, colour in enumerate(reversed(style["colours"])):
            shown = [span for span, is_selected in zip(spans, selected, strict=True) if is_selected]
            axis.broken_barh(shown, (bottom + index * part, part), facecolor=colour, linewidth=0)
        if style["name"] not in EMOTIONS:  # those are in the legend of the lines
            entries.append((tuple(Patch(facecolor=colour) for colour in style["colours"]), style["name"]))
    if entries:
        handlers, words = zip(*entries, strict=True)
        axis.legend(
            handlers,
            words,
            loc="center left",
            bbox_to_anchor=(1.0, 0.5),
            frameon=False,
            handlelength=2.4,
            handler_map={tuple: HandlerTuple(ndivide=None, pad=0)},
        )
    axis.set(ylim=(-0.15, 1.15), yticks=[], ylabel="expression")


@_in_style
def timeline_figure(track: Track) -> "Figure":
    """Emotions of one face over time, and its expression or the scores of its compounds, two columns wide.

    Gaps in the track stay empty.
    """
    table, frames = track.table, track.frames
    all_times = frame_times(table)
    times = all_times[frames - 1]
    values = np.concatenate([table.emotions, table.scores], axis=1)[track.rows].astype(np.float64)
    ends = np.array([np.searchsorted(frames, last) for _, last in parts_of(frames)[:-1]], np.int64)
    times, values = np.insert(times, ends + 1, np.nan), np.insert(values, ends + 1, np.nan, axis=0)
    is_strip = table.labels == "expression"
    figure, axes = _new_figure(
        TWO_COLUMNS_MM, 78 if is_strip else 95, nrows=2, sharex=True, height_ratios=(5, 2) if is_strip else (1, 1)
    )
    upper, lower = axes[:, 0]
    _draw_series(upper, times, values[:, :6], emotion_style())
    if is_strip:
        _draw_strip(lower, track, all_times)
    else:
        _draw_series(lower, times, values[:, 6:], compound_style(table.compounds))
        lower.set(ylabel="score", ylim=(0, None))
    for axis in (upper, lower):
        for gap in find_gaps(table):
            end = all_times[gap.to_frame - 1] + usual_step_s(all_times)
            axis.axvspan(
                all_times[gap.from_frame - 1], end, facecolor="0.9", hatch="////", edgecolor="0.7", linewidth=0
            )
        if axis.get_legend() is None:
            axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, handlelength=2.4)
    upper.set(ylabel="probability", ylim=(0, 1))
    lower.set(xlabel="time in seconds", xlim=(all_times[0], all_times[-1]))
    return figure


@_in_style
def shares_figure(tracks: Sequence[Track]) -> "Figure":
    """Share of each label per face as bars, one column wide; expressions that never occur are left out."""
    table = tracks[0].table
    kept = np.arange(len(table.names))
    if table.labels == "expression":
        kept = np.unique(np.concatenate([table.label[track.rows] for track in tracks]))
    names = [table.names[number] for number in kept]
    figure, axes = _new_figure(ONE_COLUMN_MM, 14 + (5 + 3 * len(tracks)) * len(names))
    axis, bar_height = axes[0, 0], 0.8 / len(tracks)
    for number, track in enumerate(tracks):
        label = track.table.label[track.rows]
        share = [float((label == number).mean()) for number in kept]
        ys = np.arange(len(names)) + number * bar_height
        colour, hatch = OKABE_ITO[(4 + number) % len(OKABE_ITO)], ("", "///", "...", "xxx")[number % 4]
        axis.barh(
            ys, share, bar_height * 0.9, color=colour, hatch=hatch, edgecolor="white", linewidth=0, label=track.name
        )
    axis.set_yticks(np.arange(len(names)) + bar_height * (len(tracks) - 1) / 2, names)
    axis.invert_yaxis()
    axis.set(xlabel="share of the face's frames", xlim=(0, 1))
    if len(tracks) > 1:
        figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return figure


@_in_style
def curves_figure(
    lines: Sequence[tuple[str, npt.NDArray[np.float64], npt.NDArray[np.float64]]],
    *,
    y_label: str,
    y_range: tuple[float, float] | None = None,
) -> "Figure":
    """Lines (name, xs f64[n], ys f64[n]) over epochs, one column wide, with the legend above."""
    rows = -(-len(lines) // 3)
    figure, axes = _new_figure(ONE_COLUMN_MM, 52 + 4 * rows)
    axis = axes[0, 0]
    for number, (name, xs, ys) in enumerate(lines):
        colour, marker = OKABE_ITO[number % len(OKABE_ITO)], _MARKERS[number % len(_MARKERS)]
        step = max(1, len(xs) // _MARKERS_PER_LINE)
        axis.plot(xs, ys, color=colour, marker=marker, markevery=step, label=name, path_effects=_outline([colour]))
    axis.set(xlabel="epoch", ylabel=y_label)
    if y_range is not None:
        axis.set_ylim(*y_range)
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=8, handlelength=1.6, columnspacing=0.9)
    return figure


@_in_style
def confusion_figure(counts: npt.NDArray[np.int64], names: Sequence[str]) -> "Figure":
    """Counts i[C, C], true classes in rows, shaded by their share of the row, one column wide."""
    figure, axes = _new_figure(ONE_COLUMN_MM, 74)
    axis = axes[0, 0]
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*counts.shape):
        ink = "white" if share[row, column] > 0.55 else "black"
        axis.text(column, row, f"{share[row, column]:.0%}", ha="center", va="center", color=ink, fontsize=8)
    axis.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(names)), names)
    axis.set(xlabel="predicted", ylabel="true")
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    return figure


def write_figures(path: Path, *, config: ReportConfig) -> list[Path]:
    """Write `<out>/<stem>-<figure>.<format>` for one input; returns the paths.

    A film's table: shares and one timeline per face. A run: loss, f1, confusion; a k-fold set: confusion. Raises
    InputError if there is nothing to draw.
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
