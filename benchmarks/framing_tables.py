"""Lengths in detected faces, candidates for a square around them, and their tables: part of benchmarks/framing.py."""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from femae.labels import EMOTIONS

Floats = npt.NDArray[np.float64]

CAPTION = (
    "k: side of the picture over the length; below: middle of the picture below the anchor; then what both leave "
    "unexplained (robust spread of log side, x and y); on films the noise from frame to frame."
)


class Geometry:
    """Lengths and positions in detections, rows f64[N, 15]."""

    def __init__(self, rows: Floats) -> None:
        points = rows[:, 5:].reshape(-1, 5, 2)
        self.corner1, self.corner2 = rows[:, 1:3], rows[:, 3:5]
        self.width, self.height = (self.corner2 - self.corner1).T
        self.middle = (self.corner1 + self.corner2) / 2
        self.eyes, self.mouth = points[:, :2].mean(1), points[:, 3:].mean(1)
        across, down = points[:, 1] - points[:, 0], self.mouth - self.eyes
        self.eye_distance, self.eyes_mouth = np.hypot(*across.T), np.hypot(*down.T)
        self.size = np.sqrt(self.width * self.height)
        self.triangle = np.hypot(self.eye_distance, self.eyes_mouth)
        self.roll_deg = np.degrees(np.arctan2(across[:, 1] - down[:, 0], across[:, 0] + down[:, 1]))


CANDIDATES: dict[str, tuple[Callable[[Geometry], Floats], Callable[[Geometry], Floats]]] = {
    "box: size; its middle": (lambda g: g.size, lambda g: g.middle),
    "box: height; its middle": (lambda g: g.height, lambda g: g.middle),
    "landmarks: eyes to mouth; eyes": (lambda g: g.eyes_mouth, lambda g: g.eyes),
    "landmarks: eye to eye; eyes": (lambda g: g.eye_distance, lambda g: g.eyes),
    "landmarks: both; eyes": (lambda g: g.triangle, lambda g: g.eyes),
    "landmarks: both; eyes and mouth": (lambda g: g.triangle, lambda g: (g.eyes + g.mouth) / 2),
    "blend: box size and landmarks; box and eyes": (
        lambda g: np.sqrt(g.size * g.triangle),
        lambda g: (g.middle + g.eyes) / 2,
    ),
    "**chosen: box size; box and eyes**": (lambda g: g.size, lambda g: (g.middle + g.eyes) / 2),
}


def spread(values: Floats) -> float:
    """Robust standard deviation: that of a normal distribution with the same median absolute deviation."""
    return 1.4826 * float(np.nanmedian(np.abs(values - np.nanmedian(values))))


def jitter(values: Floats) -> float:
    """Noise from frame to frame: spread of second differences, as of white noise."""
    return spread(values[2:] - 2 * values[1:-1] + values[:-2]) / math.sqrt(6)


def geometry_table(sets: dict[str, Floats]) -> list[str]:
    lines = ["| set | measure | mean | SD | 5 % | 25 % | 50 % | 75 % | 95 % |", "|---|---|---|---|---|---|---|---|---|"]
    for name, rows in sets.items():
        g = Geometry(rows)
        columns = {
            "eyes x": g.eyes[:, 0],
            "eyes y": g.eyes[:, 1],
            "mouth x": g.mouth[:, 0],
            "mouth y": g.mouth[:, 1],
            "eye to eye": g.eye_distance,
            "eyes to mouth": g.eyes_mouth,
            "box middle x": g.middle[:, 0],
            "box middle y": g.middle[:, 1],
            "box width": g.width,
            "box height": g.height,
            "roll, degrees": g.roll_deg,
        }
        for measure, values in columns.items():
            quantiles = " | ".join(f"{q:.3g}" for q in np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95]))
            lines.append(f"| {name} | {measure} | {values.mean():.3f} | {values.std():.3f} | {quantiles} |")
    return lines


def candidate_table(sets: dict[str, Floats], film_rows: dict[str, Floats]) -> list[str]:
    """Fitted constants and residual spread on each set, and noise on films."""
    head = "side; anchor | " + " | ".join(f"{name}: k | below | side % | x % | y %" for name in sets)
    lines = [CAPTION, "", f"| {head} | films: side % | x, y % |", "|---" * (head.count("|") + 3) + "|"]
    for name, (side_of, anchor_of) in CANDIDATES.items():
        cells = [name]
        for rows in sets.values():
            g = Geometry(rows)
            logs = -np.log(side_of(g))
            side = side_of(g) * math.exp(np.median(logs))
            offset = np.median((0.5 - anchor_of(g)) / side[:, None], axis=0)
            left = anchor_of(g) + offset * side[:, None] - 0.5
            cells += [f"{math.exp(np.median(logs)):.3f}", f"{offset[1]:.3f}", f"{100 * spread(logs):.1f}"]
            cells += [f"{100 * spread(left[:, axis]):.1f}" for axis in (0, 1)]
        noise = []
        for rows in film_rows.values():
            g = Geometry(rows)
            anchor = anchor_of(g) / np.nanmedian(1.06 * g.size)
            noise.append([jitter(np.log(side_of(g))), *(jitter(anchor[:, axis]) for axis in (0, 1))])
        mean = 100 * np.mean(noise, axis=0)
        lines.append(f"| {' | '.join(cells)} | {mean[0]:.2f} | {mean[1]:.2f}, {mean[2]:.2f} |")
    return lines


def expression_table(rows: Floats, votes: npt.NDArray[np.int64]) -> list[str]:
    """Change of the crop's side with the expression of a face, in percent of the median of all."""
    names = (*EMOTIONS, "neutral")
    top = votes[:, :7].argmax(1)
    strong = votes[np.arange(len(votes)), top] >= 6
    lines = ["Change of each length with the expression, % (FER+, at least 6 votes of ten).", ""]
    lines += [f"| side from | {' | '.join(names)} |", "|---" * 8 + "|"]
    for name in ("size", "height", "eyes_mouth", "eye_distance", "triangle"):
        logs = np.log(getattr(Geometry(rows), name))
        cells = [f"{100 * (np.median(logs[strong & (top == j)]) - np.median(logs)):+.1f}" for j in range(7)]
        lines.append(f"| {name.replace('_', ' ')} | {' | '.join(cells)} |")
    return lines
