"""Reliability diagrams and confusion matrices as SVG and PNG; equal figures give equal bytes."""

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from femae.errors import MissingDependencyError
from femae.evaluation.measure import ClassFigures
from femae.metrics.calibration import Reliability

__all__ = ["confusion_figure", "draw", "reliability_figure"]

_INK, _FILL, _GRID = "#1b4f8a", "#9dbfe3", "#bbbbbb"
_COLUMNS = 3


def _new_figure(width: float, height: float) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            "figures need matplotlib: pip install 'femae[evaluate]', or leave them out with --no-figures"
        ) from error
    return Figure(figsize=(width, height), layout="constrained")


def draw(figure: Any) -> dict[str, bytes]:
    """The bytes of a figure by suffix: svg and png."""
    import matplotlib

    out = {}
    with matplotlib.rc_context({"svg.hashsalt": "femae", "svg.fonttype": "none"}):
        for kind, options in (("svg", {"metadata": {"Date": None}}), ("png", {"dpi": 150})):
            target = io.BytesIO()
            figure.savefig(target, format=kind, **options)
            out[kind] = target.getvalue()
            figure.set_layout_engine("none")  # keeps the layout for the next format
    return out


def reliability_figure(names: Sequence[str], bins: Reliability, *, title: str) -> Any:
    """One panel per label: mean target against mean probability of each bin, with the sample counts as bars."""
    kept = np.flatnonzero(bins.count.sum(1) > 0).tolist()
    columns = min(_COLUMNS, len(kept))
    rows = math.ceil(len(kept) / columns)
    figure = _new_figure(max(2.6 * columns, 4.0), 2.7 * rows + 0.3)
    figure.suptitle(title)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    edges = bins.edges
    for panel, label in zip(axes.flat, kept, strict=False):
        count = bins.count[label]
        panel.bar(
            edges[:-1], count / count.max(), width=np.diff(edges), align="edge", color=_FILL, alpha=0.5, linewidth=0
        )
        panel.plot([0, 1], [0, 1], color=_GRID, linewidth=1, linestyle="--")
        some = count > 0
        panel.plot(
            bins.mean_prob[label, some],
            bins.mean_target[label, some],
            color=_INK,
            marker="o",
            markersize=3,
            linewidth=1.2,
        )
        panel.set_title(f"{names[label]}  (ECE {bins.ece[label]:.3f})", fontsize=10)
        panel.set_xlim(0, 1)
        panel.set_ylim(0, 1.02)
    for panel in list(axes.flat)[len(kept) :]:
        panel.set_axis_off()
    figure.supxlabel("mean probability (bars: samples in the bin, of the fullest)", fontsize=9)
    figure.supylabel("mean target", fontsize=9)
    return figure


def confusion_figure(figures: ClassFigures, *, title: str) -> Any:
    """True classes in rows, predicted ones in columns; the number is the count, the shade the share of the row."""
    columns = [*figures.names] + ["missed"] * bool(figures.num_missed)
    counts = figures.confusion[:, : len(columns)]
    share = counts / np.maximum(figures.confusion.sum(1, keepdims=True), 1)
    size = len(columns)
    figure = _new_figure(2.6 + 0.62 * size, 2.1 + 0.52 * len(figures.names))
    axis = figure.subplots()
    picture = axis.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row in range(len(figures.names)):
        for column in range(size):
            dark = share[row, column] > 0.55
            axis.text(
                column,
                row,
                f"{counts[row, column]}",
                ha="center",
                va="center",
                fontsize=9,
                color="white" if dark else "black",
            )
    axis.set_xticks(range(size), columns, rotation=45, ha="right")
    axis.set_yticks(range(len(figures.names)), figures.names)
    axis.set_xlabel("predicted")
    axis.set_ylabel("true")
    axis.set_title(title)
    figure.colorbar(picture, ax=axis, label="share of the row")
    return figure
