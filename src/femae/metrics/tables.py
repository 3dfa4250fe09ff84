"""Tables 1, 2 and 3 of the paper as Markdown, from metrics or from the folders of k-fold and ablation runs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from femae.errors import DataError
from femae.labels import EMOTIONS

__all__ = [
    "PUBLISHED_TEAMS",
    "AblationRow",
    "ablation_table",
    "kfold_table",
    "markdown_table",
    "table1",
    "table2",
    "table3",
]

# Table 3: compound-expression challenge of the 6th ABAW, test set of C-EXPR-DB.
PUBLISHED_TEAMS: Final[tuple[tuple[str, float], ...]] = (
    ("Netease Fuxi AI Lab", 0.5526),
    ("HSEmotion", 0.2708),
    ("USTC-IAT-United", 0.2240),
    ("SUN_CE", 0.2201),
    ("USTC-AC", 0.1845),
)
_COLUMN_NAMES: Final = {"surprise": "Surprised"}  # in Table 1, other than the emotion's name


@dataclass(frozen=True, kw_only=True, slots=True)
class AblationRow:
    """One setting of an ablation with its results per seed."""

    name: str
    f1: Sequence[float]  # macro-F1 per seed
    components: Mapping[str, bool] = field(default_factory=dict)  # e.g. {"Pretraining": True, "EMA": False}
    accuracy: Sequence[float] = ()  # of six, per seed; empty: not measured
    compound_f1: Sequence[float] = ()  # macro-F1 over the compounds present, per seed; empty: not measured

    @classmethod
    def of_runs(cls, runs: Sequence[Mapping[str, Any]], *, name: str, components: Mapping[str, bool]) -> Self:
        """From the results of each seed's run: `macro_f1`, and `accuracy` and `compound_macro_f1` if all have them."""

        def all_of(key: str) -> list[float]:
            values = [run.get(key) for run in runs]
            return [float(value) for value in values if value is not None] if None not in values else []

        return cls(
            name=name,
            f1=[float(run["macro_f1"]) for run in runs],
            components=components,
            accuracy=all_of("accuracy"),
            compound_f1=all_of("compound_macro_f1"),
        )

    @property
    def mean(self) -> float:
        return float(np.mean(self.f1)) if len(self.f1) else float("nan")

    @property
    def deviation(self) -> float:
        """Standard deviation over seeds (n - 1); NaN with fewer than two."""
        return _deviation(np.asarray(self.f1, np.float64))


def _deviation(values: npt.NDArray[np.float64]) -> float:
    return float(values.std(ddof=1)) if values.size > 1 else float("nan")


def _number(value: float) -> str:
    return f"{value:.4f}" if np.isfinite(value) else "-"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, num_text: int = 1) -> str:
    """A Markdown table; the first `num_text` columns are text, the others are right-aligned numbers."""
    rule = ["---" if column < num_text else "---:" for column in range(len(head))]
    lines = [[_cell(text) for text in row] for row in (head, *rows)]
    lines.insert(1, rule)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def table1(folds: Mapping[str, npt.NDArray[np.floating]]) -> str:
    """F1 of the six emotions per fold, with averages: Table 1.

    folds: name of the fold (fold-1, ...) -> f[6] in the order of EMOTIONS. The last two rows are the mean and the
    standard deviation (n - 1) over folds.
    """
    head = ["Val. Set", *(_COLUMN_NAMES.get(emotion, emotion.capitalize()) for emotion in EMOTIONS), "Average"]
    values = np.array([np.asarray(f1, np.float64) for f1 in folds.values()]).reshape(-1, len(EMOTIONS))
    values = np.column_stack([values, values.mean(1)])  # [folds, 7]
    rows = [[name, *map(_number, row)] for name, row in zip(folds, values, strict=True)]
    if len(values):
        rows.append(["mean", *map(_number, values.mean(0))])
        rows.append(["deviation", *(_number(_deviation(column)) for column in values.T)])
    return markdown_table(head, rows)


def table2(rows: Sequence[AblationRow]) -> str:
    """Macro-F1 with and without each part of the method, mean and deviation over seeds: Table 2.

    There is a column per component of any row, in order of first appearance; it is off in rows that do not name it.
    Accuracy and the compounds' macro-F1 have columns if any row has them.
    """
    components = list(dict.fromkeys(name for row in rows for name in row.components))
    further = {"accuracy": [row.accuracy for row in rows], "compound F1": [row.compound_f1 for row in rows]}
    further = {name: values for name, values in further.items() if any(values)}
    body = []
    for index, row in enumerate(rows):
        marks = ["✓" if row.components.get(name, False) else "\u00d7" for name in components]
        cells = [row.name, *marks, _number(row.mean), _number(row.deviation), str(len(row.f1))]
        for values in further.values():
            seeds = np.asarray(values[index], np.float64)
            cells += [_number(float(seeds.mean()) if seeds.size else float("nan")), _number(_deviation(seeds))]
        body.append(cells)
    head = ["Method", *components, "F1 score", "deviation", "seeds"]
    return markdown_table(head + [part for name in further for part in (name, "deviation")], body)


def table3(macro_f1: float, *, name: str = "femae") -> str:
    """A macro-F1 over the seven compound classes, ranked among the five published teams: Table 3.

    The published values are on the test set of C-EXPR-DB: only a value on that set may be compared with them.
    """
    teams = [(team, score, False) for team, score in PUBLISHED_TEAMS] + [(name, float(macro_f1), True)]
    teams.sort(key=lambda team: (-team[1] if np.isfinite(team[1]) else np.inf, team[2]))
    rows = []
    for rank, (team, score, own) in enumerate(teams, 1):
        cells = [f"#{rank}", team, _number(score)]
        rows.append([f"**{cell}**" for cell in cells] if own else cells)
    return markdown_table(["Rank", "Teams", "F1 score"], rows, num_text=2)


def kfold_table(folder: Path) -> str:
    """Table 1 from `kfold.json` in a folder. Raises DataError if it is missing or incomplete."""
    content = _read(folder, "kfold.json", "a k-fold run")
    folds: dict[str, Any] = {}
    for entry in _list_of(content, "folds", folder / "kfold.json"):
        f1 = entry.get("f1")
        if not isinstance(f1, dict) or not all(_is_number(f1.get(name)) for name in EMOTIONS):
            raise DataError(
                f"{folder / 'kfold.json'}, fold {entry.get('fold', '?')}: expected `f1` with a number for each of "
                f"{', '.join(EMOTIONS)}"
            )
        number = entry.get("fold", len(folds))
        folds[f"fold-{number + 1}"] = np.array([f1[name] for name in EMOTIONS], np.float64)
    return table1(folds)


def ablation_table(folder: Path) -> str:
    """Table 2 from `ablation.json` in a folder. Raises DataError if it is missing or incomplete."""
    content = _read(folder, "ablation.json", "an ablation run")
    rows = []
    for entry in _list_of(content, "rows", folder / "ablation.json"):
        name, seeds = entry.get("name"), entry.get("seeds")
        if not isinstance(name, str) or not isinstance(seeds, list):
            raise DataError(f"{folder / 'ablation.json'}: a row lacks `name` or `seeds`")
        if not all(isinstance(seed, dict) and _is_number(seed.get("macro_f1")) for seed in seeds):
            raise DataError(f"{folder / 'ablation.json'}, row {name}: a seed lacks `macro_f1`")
        rows.append(AblationRow.of_runs(seeds, name=name, components=entry.get("components") or {}))
    return table2(rows)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _read(folder: Path, name: str, what: str) -> Any:
    path = folder / name
    if not path.is_file():
        raise DataError(f"there is no {path}: give the folder of {what} of `femae train`")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}): it may be from a run that was stopped while writing") from error


def _list_of(content: Any, key: str, path: Path) -> list[dict[str, Any]]:
    entries = content.get(key) if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries or any(not isinstance(entry, dict) for entry in entries):
        raise DataError(f"{path} has no list `{key}` with an entry: the run has not finished its first one")
    return entries
