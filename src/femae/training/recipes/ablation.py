"""Ablations (paper, Table 2): rows of a recipe with components on and off, each over several seeds."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from femae.config.recipe import AblationConfig
from femae.errors import ConfigError, MissingDependencyError
from femae.metrics.tables import AblationRow, table2
from femae.training.loop.devices import first_process
from femae.training.loop.run_folder import RunFolder, write_text
from femae.training.recipes.stage import train_stage

__all__ = ["draw_rows", "train_rows"]

_METRICS: Final = ("macro_f1", "accuracy", "compound_macro_f1", "loss", "f1")  # kept of each run's validation


def train_rows(config: AblationConfig, *, run: Path, quiet: bool = False) -> None:
    """Train every row with every seed; ablation.json, table2.md and table2.svg are rewritten after each run.

    All rows are trained with one seed before the next, so that the table is comparable early. Finished runs are kept.
    Raises ConfigError when the recipe has no rows.
    """
    if not config.rows:
        raise ConfigError("the recipe has no rows: give each a name and its changes")
    RunFolder(run, writes=first_process())
    done: dict[str, list[dict[str, Any]]] = {row.name: [] for row in config.rows}
    for seed in config.seeds:
        for row in config.rows:
            folder = run / row.name / f"seed-{seed}"
            result = train_stage(config.row(row, seed=seed), run=folder, quiet=quiet)
            scores = {name: result.log.get(name) for name in _METRICS}
            done[row.name].append({"seed": seed, "run": f"{row.name}/seed-{seed}"} | scores)
            if first_process():
                _write(config, run, done)
    if first_process():
        Console(stderr=True, quiet=quiet).print((run / "table2.md").read_text(encoding="utf-8"), highlight=False)


def _write(config: AblationConfig, run: Path, done: Mapping[str, list[dict[str, Any]]]) -> None:
    rows = [
        AblationRow.of_runs(done[row.name], name=row.name, components=row.components)
        for row in config.rows
        if done[row.name]
    ]
    summary = [
        {"name": row.name, "components": dict(row.components), "seeds": done[row.name], "mean": row.mean}
        | {"std": row.deviation if len(row.f1) > 1 else None}
        for row in rows
    ]
    write_text(run / "ablation.json", json.dumps({"rows": summary}, indent=2) + "\n")
    write_text(run / "table2.md", table2(rows))
    write_text(run / "table2.svg", draw_rows(rows))


def draw_rows(rows: list[AblationRow]) -> str:
    """An SVG figure: mean macro-F1 of each row with its standard deviation, and a point for each seed.

    Raises MissingDependencyError without matplotlib.
    """
    try:
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingDependencyError("the figure of an ablation needs matplotlib: pip install 'femae[train]'") from None
    figure = Figure(figsize=(7, 0.5 * len(rows) + 1.2), layout="constrained")
    FigureCanvasSVG(figure)
    axis = figure.subplots()
    positions = range(len(rows))
    for position, row in zip(positions, rows, strict=True):
        error = row.deviation if len(row.f1) > 1 else None
        axis.errorbar(row.mean, position, xerr=error, fmt="s", color="#0072B2", capsize=4)
        axis.scatter(row.f1, [position] * len(row.f1), color="#E69F00", s=14, zorder=3)
    axis.set_yticks(list(positions), [row.name for row in rows])
    axis.invert_yaxis()
    axis.set_xlabel("macro-F1 of six emotions; squares: mean and deviation over seeds, dots: seeds")
    axis.grid(axis="x", alpha=0.3)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
