"""SVG charts for pages: lines, a heat map, dots with intervals. Colours follow the page's theme."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape

from femae.report.parts.series import OKABE_ITO, keep_peaks

__all__ = ["Line", "dot_chart", "heat_map", "line_chart", "nice_ticks"]

_WIDTH, _HEIGHT = 560, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 14, 24, 40
_MARKS = "●■▲◆✖▼✚★"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line. xs, ys: f64[n]; `marks`: draw a symbol at each point, not only at a few."""

    name: str
    xs: npt.NDArray[np.float64]
    ys: npt.NDArray[np.float64]
    marks: bool = False
    style_index: int | None = None  # of colour, symbol and dashes; None: the position in the chart
    tooltips: Sequence[str] = field(default_factory=tuple)  # one per point; empty: x and y


def nice_ticks(low: float, high: float, *, count: int = 5) -> list[float]:
    """About `count` round numbers between `low` and `high`."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    base = 10 ** math.floor(math.log10(raw))
    step = next(base * factor for factor in (1, 2, 2.5, 5, 10) if base * factor >= raw)
    first = math.ceil(low / step - 1e-9)
    return [round(step * k, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _colour(index: int) -> str:
    colour = OKABE_ITO[index % len(OKABE_ITO)]
    return "var(--black)" if colour == "black" else colour


def _number(value: float) -> str:
    size = abs(value)
    return f"{value:.0e}" if 0 < size < 1e-3 else f"{value:,.0f}" if size >= 1000 else f"{value:g}"


def line_chart(
    lines: Sequence[Line],
    *,
    title: str,
    x_label: str,
    y_label: str,
    y_range: tuple[float, float] | None = None,
    diagonal: bool = False,
) -> Markup:
    """Lines in one coordinate system with a legend below; points that are not finite are left out."""
    lines = [_finite(line) for line in lines]
    xs = np.concatenate([line.xs for line in lines]) if lines else np.zeros(0)
    ys = np.concatenate([line.ys for line in lines]) if lines else np.zeros(0)
    x0, x1 = (float(xs.min()), float(xs.max())) if len(xs) else (0.0, 1.0)
    x1 = x1 if x1 > x0 else x0 + 1
    y0, y1 = y_range or ((min(0.0, float(ys.min())), float(np.max(ys)) * 1.05) if len(ys) else (0.0, 1.0))
    y1 = y1 if y1 > y0 else y0 + 1

    def at(x: float, y: float) -> tuple[float, float]:
        width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
        return _LEFT + (x - x0) / (x1 - x0) * width, _TOP + height - (y - y0) / (y1 - y0) * height

    parts = [_axes(nice_ticks(x0, x1), nice_ticks(y0, y1), at, x_label, y_label)]
    if diagonal:
        (ax, ay), (bx, by) = at(x0, x0), at(x1, x1)
        parts.append(f'<path class="axis" stroke-dasharray="4 4" d="M{ax:.1f} {ay:.1f}L{bx:.1f} {by:.1f}"/>')
    indices = [number if line.style_index is None else line.style_index for number, line in enumerate(lines)]
    parts += [_line(line, index, at) for line, index in zip(lines, indices, strict=True)]
    legend = [(line.name, index) for line, index in zip(lines, indices, strict=True)]
    height = _HEIGHT + _legend_height(legend)
    return _svg(title, "".join(parts) + _legend(legend), height=height)


def _finite(line: Line) -> Line:
    known = np.isfinite(line.xs) & np.isfinite(line.ys)
    tooltips = [text for text, keep in zip(line.tooltips, known, strict=True) if keep] if len(line.tooltips) else ()
    xs, ys = line.xs[known], line.ys[known]
    kept = np.arange(len(xs)) if len(tooltips) else keep_peaks(ys[:, None], max_rows=1500)
    return replace(line, xs=xs[kept], ys=ys[kept], tooltips=tooltips)


def _svg(title: str, inner: str, *, height: float, width: float = _WIDTH) -> Markup:
    head = f'<svg class="chart" viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(title)}">'
    return Markup(head + inner + "</svg>")  # all texts in it are escaped


def _axes(x_ticks: list[float], y_ticks: list[float], at, x_label: str, y_label: str) -> str:  # type: ignore[no-untyped-def]
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = [f'<path class="axis" d="M{_LEFT} {_TOP}V{bottom}H{right}"/>']
    for tick in y_ticks:
        y = at(0, tick)[1]
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{right}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_number(tick)}</text>')
    for tick in x_ticks:
        x = at(tick, 0)[0]
        parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{_number(tick)}</text>')
    parts.append(f'<text class="tick" x="{right}" y="{bottom + 31}" text-anchor="end">{escape(x_label)}</text>')
    parts.append(f'<text class="tick" x="{_LEFT}" y="{_TOP - 10}">{escape(y_label)}</text>')
    return "".join(parts)


def _line(line: Line, index: int, at) -> str:  # type: ignore[no-untyped-def]
    if not len(line.xs):
        return ""
    points = [at(float(x), float(y)) for x, y in zip(line.xs, line.ys, strict=True)]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    colour = _colour(index)
    dash = ' stroke-dasharray="6 3"' if index >= len(OKABE_ITO) else ""
    parts = [f'<path fill="none" stroke="{colour}" stroke-width="1.8" opacity="1"{dash} d="{path}"/>']
    every = 1 if line.marks else max(1, len(points) // 5)
    for number in range(0 if line.marks else every // 2, len(points), every):
        x, y = points[number]
        tooltip = line.tooltips[number] if len(line.tooltips) else f"{line.xs[number]:g}: {line.ys[number]:.4g}"
        parts.append(
            f'<text x="{x:.1f}" y="{y + 3.5:.1f}" text-anchor="middle" style="fill:{colour};font-size:9px">'
            f"{_MARKS[index % len(_MARKS)]}<title>{escape(line.name)}, {escape(tooltip)}</title></text>"
        )
    return "".join(parts)


def _legend_positions(entries: list[tuple[str, int]]) -> list[tuple[float, int]]:
    """Position of each entry: x in pixels, and row."""
    positions, x, row = [], float(_LEFT), 0
    for name, _ in entries:
        width = 24 + 6.4 * len(name)
        if x > _LEFT and x + width > _WIDTH:
            x, row = float(_LEFT), row + 1
        positions.append((x, row))
        x += width
    return positions


def _legend_height(entries: list[tuple[str, int]]) -> int:
    positions = _legend_positions(entries)
    return 16 * (positions[-1][1] + 1) if len(positions) > 1 else 0


def _legend(entries: list[tuple[str, int]]) -> str:
    if len(entries) < 2:
        return ""
    parts = []
    for (name, index), (x, row) in zip(entries, _legend_positions(entries), strict=True):
        y = _HEIGHT + 8 + 16 * row
        mark = _MARKS[index % len(_MARKS)]
        parts.append(f'<text x="{x:.0f}" y="{y}" style="fill:{_colour(index)}">{mark}</text>')
        parts.append(f'<text x="{x + 14:.0f}" y="{y}">{escape(name)}</text>')
    return "".join(parts)


def heat_map(counts: npt.NDArray[np.int64], *, rows: Sequence[str], columns: Sequence[str], title: str) -> Markup:
    """Counts i64[R, C], shaded by their share of the row; each cell has the number and the share."""
    left, top, cell_x, cell_y = 128, 62, 62, 34
    width, height = left + cell_x * len(columns) + 8, top + cell_y * len(rows) + 8
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    parts = [f'<text class="tick" x="{left}" y="12">predicted</text><text class="tick" x="4" y="{top - 6}">true</text>']
    for number, name in enumerate(columns):
        x = left + cell_x * number + 22
        parts.append(f'<text x="{x}" y="{top - 6}" transform="rotate(-32 {x} {top - 6})">{escape(name)}</text>')
    for r, name in enumerate(rows):
        y = top + cell_y * r
        parts.append(f'<text x="{left - 6}" y="{y + 21}" text-anchor="end">{escape(name)}</text>')
        for c in range(len(columns)):
            x, value = left + cell_x * c, float(share[r, c])
            ink = "#fff" if value > 0.5 else "var(--ink)"
            tooltip = f"{name} as {columns[c]}: {counts[r, c]:,} ({value:.1%})"
            parts.append(
                f'<rect x="{x}" y="{y}" width="{cell_x - 2}" height="{cell_y - 2}" fill="#0072B2" '
                f'fill-opacity="{0.04 + 0.96 * value:.3f}"><title>{escape(tooltip)}</title></rect>'
                f'<text x="{x + cell_x / 2 - 1}" y="{y + 15}" text-anchor="middle" style="fill:{ink}">'
                f"{counts[r, c]:,}</text>"
                f'<text x="{x + cell_x / 2 - 1}" y="{y + 27}" text-anchor="middle" style="fill:{ink};font-size:9px">'
                f"{value:.0%}</text>"
            )
    return _svg(title, "".join(parts), width=width, height=height)


def dot_chart(
    groups: Sequence[tuple[str, Sequence[tuple[str, float, float, float]]]],
    *,
    title: str,
    x_label: str,
    from_zero: bool = True,
) -> Markup:
    """A row per group with a dot and an interval for each (name, value, low, high); NaN intervals are left out."""
    names = list(dict.fromkeys(name for _, dots in groups for name, *_ in dots))
    values = [v for _, dots in groups for dot in dots for v in dot[1:] if math.isfinite(v)]
    zero = [0.0] if from_zero or not values else []
    low, high = min([*values, *zero]), max([*values, *zero])
    margin = 0.04 * (high - low or 1.0)
    low, high = low - margin * (low < 0 or not from_zero), high + margin
    ticks = nice_ticks(low, high)
    left, line = 150, 13
    row_height = line * len(names) + 10
    height = 18 + row_height * len(groups) + 34
    plot_width = _WIDTH - left - 16

    def x_of(value: float) -> float:
        return left + (value - low) / (high - low) * plot_width

    bottom = 18 + row_height * len(groups)
    parts = []
    for tick in ticks:
        x = x_of(tick)
        parts.append(f'<path class="grid" d="M{x:.1f} 12V{bottom}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 14}" text-anchor="middle">{_number(tick)}</text>')
    parts.append(f'<text class="tick" x="{_WIDTH - 8}" y="{bottom + 30}" text-anchor="end">{escape(x_label)}</text>')
    for g, (group, dots) in enumerate(groups):
        y = 18 + row_height * g
        parts.append(f'<text x="{left - 8}" y="{y + row_height / 2 + 2:.1f}" text-anchor="end">{escape(group)}</text>')
        parts += [_dot(dot, y + line * (names.index(dot[0]) + 0.7), x_of, names.index(dot[0])) for dot in dots]
    legend = [(name, number) for number, name in enumerate(names)]
    moved = f'<g transform="translate(0 {height - _HEIGHT})">{_legend(legend)}</g>'
    return _svg(title, "".join(parts) + moved, height=height + _legend_height(legend))


def _dot(dot: tuple[str, float, float, float], y: float, x_of, index: int) -> str:  # type: ignore[no-untyped-def]
    name, value, low, high = dot
    if not math.isfinite(value):
        return ""
    colour, tooltip = _colour(index), f"{name}: {value:.3f}"
    bar = ""
    if math.isfinite(low) and math.isfinite(high):
        tooltip += f" ({low:.3f} to {high:.3f})"
        bar = f'<path stroke="{colour}" stroke-width="2" d="M{x_of(low):.1f} {y:.1f}H{x_of(high):.1f}"/>'
    mark = f'<text x="{x_of(value):.1f}" y="{y + 4:.1f}" text-anchor="middle" style="fill:{colour}">'
    return f"<g>{bar}{mark}{_MARKS[index % len(_MARKS)]}</text><title>{escape(tooltip)}</title></g>"
