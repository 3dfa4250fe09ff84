"""Tables 1 and 2 of the paper from the folders that k-fold and ablation runs leave."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from femae.errors import DataError
from femae.labels import EMOTIONS
from femae.metrics.tables import AblationRow, table1, table2

__all__ = ["ablation_table", "kfold_table"]


def kfold_table(folder: Path) -> str:
    """Table 1 of `kfold.json` in a folder. Raises DataError when it is missing or incomplete."""
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
    """Table 2 of `ablation.json` in a folder. Raises DataError when it is missing or incomplete."""
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
        raise DataError(f"{path} is no JSON ({error}): it may be from a run that was stopped while writing") from error


def _list_of(content: Any, key: str, path: Path) -> list[dict[str, Any]]:
    entries = content.get(key) if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries or any(not isinstance(entry, dict) for entry in entries):
        raise DataError(f"{path} has no list `{key}` with an entry: the run has not finished its first one")
    return entries
