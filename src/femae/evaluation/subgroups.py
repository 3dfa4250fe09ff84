"""The main figures for each part of a column: texts by value, numbers by quantile."""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from femae.errors import ConfigError
from femae.evaluation.measure import Measures, Settings, measure
from femae.evaluation.samples import Samples

__all__ = ["Subgroup", "subgroups"]

_MOST: Final = 20  # values of a text; the rest go together
_MISSING: Final = "(none)"
_OTHERS: Final = "(others)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Subgroup:
    """One part and its figures."""

    name: str
    measures: Measures


def subgroups(samples: Samples, *, column: str, settings: Settings, num_quantiles: int) -> list[Subgroup]:
    """Figures per part, in order of the values. Raises ConfigError for a column that is not there or holds lists."""
    table = samples.columns
    if column not in table.column_names:
        raise ConfigError(f"--by {column}: there is no such column; there are {', '.join(table.column_names)}")
    kind = table.schema.field(column).type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind):
        raise ConfigError(f"--by {column}: the column holds {kind}; expected texts, truth values or numbers")
    if pa.types.is_floating(kind) or pa.types.is_integer(kind):
        values = np.asarray(table.column(column).cast(pa.float64()).to_numpy(), np.float64)
        names = _quantiles(values, num_quantiles)
    else:
        names = _values(table.column(column))
    parts = []
    for name in sorted(set(names.tolist()), key=lambda name: (name in (_MISSING, _OTHERS), name)):
        chosen = np.asarray(names == name, np.bool_)
        parts.append(Subgroup(name=name.split("\0")[-1], measures=measure(samples.select(chosen), settings)))
    return parts


def _values(column: Any) -> npt.NDArray[np.str_]:
    texts = [_MISSING if value is None or value == "" else str(value) for value in column.to_pylist()]
    kept = {name for name, _ in Counter(texts).most_common(_MOST)}
    return np.array([text if text in kept else _OTHERS for text in texts])


def _quantiles(values: npt.NDArray[np.float64], num: int) -> npt.NDArray[np.str_]:
    """Parts of about equal size; a few different values (at most `num`) are each their own part."""
    known = values[~np.isnan(values)]
    different = np.unique(known)
    if len(different) <= num:
        names = {value: f"{place:02d}\0{value:g}" for place, value in enumerate(different)}
        return np.array([names.get(value, _MISSING) for value in values.tolist()])
    edges = np.unique(np.quantile(known, np.linspace(0, 1, num + 1)))
    place = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    ends = ["]" if part == len(edges) - 2 else ")" for part in range(len(edges) - 1)]
    names_of = [f"{p:02d}\0[{edges[p]:.4g}, {edges[p + 1]:.4g}{ends[p]}" for p in range(len(edges) - 1)]
    return np.array([_MISSING if np.isnan(v) else names_of[p] for v, p in zip(values, place, strict=True)])
