"""Columns of an Arrow table as plain Python and numpy values."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = ["codes", "distinct", "numbers", "strings", "vectors"]


def _column(table: pa.Table, name: str) -> Any:
    return table.column(name)


def strings(table: pa.Table, name: str) -> list[str]:
    """A text column."""
    values: list[str] = _column(table, name).to_pylist()
    return values


def codes(table: pa.Table, name: str) -> tuple[npt.NDArray[np.int32], list[str]]:
    """A text column as numbers i32[N] into its different values, in order of first appearance."""
    column = _column(table, name)
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    whole = column.unify_dictionaries().combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = whole.chunk(0)
    names: list[str] = whole.dictionary.to_pylist()
    return np.asarray(whole.indices.to_numpy(zero_copy_only=False), np.int32), names


def distinct(table: pa.Table, name: str) -> list[str]:
    """The different values of a text column, in order of first appearance."""
    values: list[str] = _column(table, name).unique().to_pylist()
    return values


def numbers(table: pa.Table, name: str) -> npt.NDArray[Any]:
    """A number column [N]; null gives NaN."""
    return np.asarray(_column(table, name).to_numpy(zero_copy_only=False))


def vectors(table: pa.Table, name: str) -> npt.NDArray[Any]:
    """A column of lists of one fixed length K -> [N, K]."""
    data = _column(table, name).combine_chunks()
    return np.asarray(data.flatten().to_numpy(zero_copy_only=False)).reshape(-1, data.type.list_size)
