"""Samples to evaluate: probabilities and known labels, read from a table in any of these forms.

- `targets`, `mask`, `au_targets`, `au_mask`: lists, as in the manifest of a folder of shards.
- `target_surprise` ... 0..1, null unknown, as in a table of scores; `target_AU01` ...
- the ten vote columns of FER+ (`neutral`, `happiness`, ... `unknown`, `NF`). Targets are the shares of the votes that
  name an expression. The top emotion has the most votes of the six, at least three of ten, more than neutral, and no
  vote for NF.
- a class name: `class_name`, `emotion`, `label` or `expression`; and `compound` (or `target_compound`).
  Without a column of compounds, a row whose class is not a compound may have one by its votes (metrics/hard_labels.py).
- `AU01`, `AU02`, ... 0..1 in a table with labels only; null or -1 unknown.

Rows with `dup_in_training` = 1 do not count: the network was trained on a copy of the picture.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from femae.data.store.manifest import vectors
from femae.data.store.shards import ACTION_UNITS
from femae.data.targets import label_targets, vote_targets
from femae.errors import ConfigError, DataError, LabelError
from femae.evaluation.tables import float_column, float_columns, text_column
from femae.labels import (
    EMOTIONS,
    FERPLUS_VOTES,
    LABEL_ORDERS,
    Compound,
    compound_from_pair,
    emotion_indices,
    parse_label,
)
from femae.metrics.hard_labels import top_emotion, top_expression, top_pair

__all__ = ["Labels", "Samples", "Shares", "Votes", "has_labels", "read_labels", "vote_shares"]

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
_CLASS_COLUMNS: Final = ("class_name", "emotion", "label", "expression")
_COMPOUND_COLUMNS: Final = ("target_compound", "compound")
_PAIR_OF: Final = {compound_from_pair(*pair).name: frozenset(pair) for pair in permutations(EMOTIONS, 2)}
_TARGETS: Final = tuple(f"target_{emotion}" for emotion in EMOTIONS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Labels:
    """The known labels of N samples."""

    targets: Floats  # f32[N, 6], 0..1, order of EMOTIONS; 0 where unknown
    mask: Bools  # bool[N, 6], True: known
    top: Ints  # i64[N], the top emotion; -1: none
    compound: Ints  # i64[N], index in the class set; -1: none
    expression: Ints  # i64[N], the label for people, index in ExpressionRule.names; -1: unclear
    au_names: tuple[str, ...]
    au_targets: Floats  # f32[N, A]
    au_mask: Bools  # bool[N, A]
    notes: tuple[str, ...] = ()  # sentences about rows left out


@dataclass(frozen=True, kw_only=True, slots=True)
class Samples:
    """N labelled samples and their predictions."""

    probs: Floats  # f32[N, 6]; NaN: no face found, or no prediction at all
    au_probs: Floats  # f32[N, A], order of labels.au_names
    labels: Labels
    groups: Ints  # i64[N], number of the person or film
    columns: pa.Table  # N rows: other columns, for subgroups
    answers: tuple[Ints, npt.NDArray[np.float64]] | None = None  # predicted, with probabilities; None: no column
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        size = len(self.probs)
        assert self.probs.shape == (size, len(EMOTIONS)) and self.labels.targets.shape == self.probs.shape
        assert self.au_probs.shape == self.labels.au_targets.shape and self.columns.num_rows == size == len(self.groups)

    def __len__(self) -> int:
        return len(self.probs)

    @property
    def found(self) -> Bools:
        """bool[N]: there is a prediction."""
        return np.asarray(~np.isnan(self.probs[:, 0]), np.bool_)

    def select(self, chosen: Bools) -> "Samples":
        """The samples where `chosen` bool[N] is True."""
        labels = self.labels
        return Samples(
            probs=self.probs[chosen],
            au_probs=self.au_probs[chosen],
            labels=Labels(
                targets=labels.targets[chosen],
                mask=labels.mask[chosen],
                top=labels.top[chosen],
                compound=labels.compound[chosen],
                expression=labels.expression[chosen],
                au_names=labels.au_names,
                au_targets=labels.au_targets[chosen],
                au_mask=labels.au_mask[chosen],
                notes=labels.notes,
            ),
            groups=self.groups[chosen],
            columns=self.columns.filter(pa.array(chosen)),
            answers=None if self.answers is None else (self.answers[0][chosen], self.answers[1][chosen]),
            notes=self.notes,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Votes:
    """Shares of all votes, unlike targets, which are shares of the votes that name an expression."""

    six: Floats  # f32[N, 6]
    neutral: Floats  # f32[N]
    nothing: Floats  # f32[N]: the larger share of `unknown` and `NF` (no face)
    no_face: Bools  # bool[N]: at least one vote for NF


@dataclass(frozen=True, kw_only=True, slots=True)
class Shares:
    """Targets f32[N, 6] with 0 where mask bool[N, 6] is False, and the votes if there are any."""

    targets: Floats
    mask: Bools
    votes: Votes | None = None

    def top(self) -> Ints:
        """The top emotion i64[N] (metrics.hard_labels), -1 for none or if a vote says that there is no face."""
        if self.votes is None:
            return top_emotion(self.targets, mask=self.mask)
        top = top_emotion(self.votes.six, neutral=self.votes.neutral)
        return np.asarray(np.where(self.votes.no_face, -1, top), np.int64)

    def pair(self, pairs: list[tuple[int, int]]) -> Ints:
        """The top pair of emotions i64[N], index in `pairs`, -1 for none or if `nothing` exceeds the first share."""
        if self.votes is None:
            return top_pair(self.targets, pairs=pairs, mask=self.mask)
        against = np.maximum(self.votes.neutral, self.votes.nothing)
        return top_pair(self.votes.six, pairs=pairs, neutral=against)

    def expression(self) -> Ints:
        """The label for people without compounds i64[N]: none (0), an emotion (1 to 6), -1 unclear or a vote for NF."""
        if self.votes is None:
            return top_expression(self.targets, pairs=(), mask=self.mask)
        clear = top_expression(self.votes.six, pairs=(), neutral=self.votes.neutral)
        return np.asarray(np.where(self.votes.no_face, -1, clear), np.int64)


def vote_shares(table: pa.Table, *, path: Path) -> Shares:
    """Shares from the ten vote columns of FER+. Raises DataError if votes are missing or negative."""
    votes = np.stack([float_column(table, name, path=path) for name in FERPLUS_VOTES], axis=1)
    wrong = np.flatnonzero(~(votes >= 0).all(1))
    if wrong.size:
        raise DataError(f"{path}, row {wrong[0] + 1}: votes are missing or negative; expected ten counts from 0")
    column = {name: votes[:, index] / np.maximum(votes.sum(1), 1) for index, name in enumerate(FERPLUS_VOTES)}
    labels = [vote_targets(dict(zip(FERPLUS_VOTES, row, strict=True))) for row in votes.tolist()]

    def share(values: npt.NDArray[np.float64]) -> Floats:
        return values.astype(np.float32)

    return Shares(
        targets=np.stack([label.targets for label in labels]),
        mask=np.stack([label.mask for label in labels]),
        votes=Votes(
            six=share(np.stack([column[emotion] for emotion in EMOTIONS], axis=1)),
            neutral=share(column["neutral"]),
            nothing=share(np.maximum(column["unknown"], column["NF"])),
            no_face=np.asarray(column["NF"] > 0, np.bool_),
        ),
    )


def has_labels(table: pa.Table, *, alone: bool) -> bool:
    """Whether the table has labels; alone: it is a table of labels only, otherwise one of scores."""
    names = set(table.column_names)
    found = {"targets", "mask"} <= names or bool(names & {*_TARGETS, "target_compound"}) or bool(_target_aus(names))
    others = bool(names & {*_CLASS_COLUMNS, *_COMPOUND_COLUMNS, *ACTION_UNITS}) or set(FERPLUS_VOTES) <= names
    return found or (alone and others)


def _target_aus(names: set[str]) -> list[str]:
    return [name for name in ACTION_UNITS if f"target_{name}" in names]


def read_labels(
    table: pa.Table,
    *,
    path: Path,
    compounds: tuple[Compound, ...],
    compound_labels: str = "auto",
    label_order: str = "",
    alone: bool,
) -> Labels:
    """The labels of a table for which `has_labels` is true. Raises DataError for invalid labels, ConfigError."""
    classes = _class_names(table, _CLASS_COLUMNS if alone else ("class_name",), path=path, label_order=label_order)
    shares = _shares(table, classes, path=path, alone=alone)
    targets, mask = shares.targets, shares.mask
    top = np.where([name in _PAIR_OF for name in classes], -1, shares.top())
    columns = _COMPOUND_COLUMNS if alone else _COMPOUND_COLUMNS[:1]
    pairs = _class_names(table, columns, path=path, label_order=label_order)
    pairs = [pair or (name if name in _PAIR_OF else "") for pair, name in zip(pairs, classes, strict=True)]
    compound, notes = _compound_indices(pairs, compounds)
    by_votes = shares.pair(emotion_indices(compounds))
    if compound_labels == "votes":
        compound, notes = by_votes, []
    elif compound_labels == "auto" and not any(name in table.column_names for name in columns):
        compound = np.where([name in _PAIR_OF for name in classes], compound, by_votes)
    expression = _expression(classes, pairs, compound, shares)
    au_names, au_targets, au_mask = _action_units(table, path=path, alone=alone)
    copies = float_column(table, "dup_in_training", path=path) == 1
    if copies.any():
        top, compound, expression = (np.where(copies, -1, values) for values in (top, compound, expression))
        mask, au_mask = mask & ~copies[:, None], au_mask & ~copies[:, None]
        notes.append(
            f"{int(copies.sum())} rows do not count: dup_in_training marks them as copies of training pictures"
        )
    return Labels(
        targets=targets,
        mask=mask,
        top=top,
        compound=compound,
        expression=expression,
        au_names=au_names,
        au_targets=au_targets,
        au_mask=au_mask,
        notes=tuple(notes),
    )


def _expression(classes: Sequence[str], pairs: Sequence[str], compound: Ints, shares: Shares) -> Ints:
    """The label for people i64[N]: a compound of the class set, else none or an emotion if it is clear, else -1.

    For a compound outside the set and for contempt the label has no answer: -1.
    """
    outside = [pair in _PAIR_OF or name == "contempt" for name, pair in zip(classes, pairs, strict=True)]
    other = np.where(outside, -1, shares.expression())
    if shares.votes is not None:
        compound = np.where(shares.votes.no_face, -1, compound)
    return np.asarray(np.where(compound >= 0, 1 + len(EMOTIONS) + compound, other), np.int64)


def _class_names(table: pa.Table, names: Sequence[str], *, path: Path, label_order: str) -> list[str]:
    """The values of the first existing column, normalised by labels.parse_label; empty: no label."""
    name = next((name for name in names if name in table.column_names), "")
    order: Mapping[int, str] | None = None
    if label_order:
        if label_order not in LABEL_ORDERS:
            raise ConfigError(f"there is no label order '{label_order}'; expected one of {', '.join(LABEL_ORDERS)}")
        order = LABEL_ORDERS[label_order]
    out: list[str] = []
    known: dict[str, str] = {"": ""}
    for row, text in enumerate(text_column(table, name), 1):
        if text not in known:
            try:
                known[text] = _parse_class_name(text, order)
            except LabelError as error:
                raise DataError(f"{path}, column {name}, row {row}: {error}") from None
        out.append(known[text])
    return out


def _parse_class_name(text: str, order: Mapping[int, str] | None) -> str:
    """One normalised label; empty for several labels (such as "Fear + Sadness" of divided votes) and "divided"."""
    number = text.strip().removesuffix(".0")
    if number.lstrip("-").isdigit():
        if number == "-1":
            return ""
        if order is None:
            raise LabelError(f"{number} is a number: name the data set whose numbering this is with --label-order")
        if int(number) not in order:
            raise LabelError(
                f"{number} is out of range: the numbers are {min(order)} to {max(order)}, or -1 for unknown"
            )
        return order[int(number)]
    if text.strip().lower() == "divided" or " + " in text:
        return ""
    return parse_label(text)


def _shares(table: pa.Table, classes: list[str], *, path: Path, alone: bool) -> Shares:
    """Targets and mask from the first form of labels that the table has."""
    names, size = set(table.column_names), table.num_rows
    if {"targets", "mask"} <= names:
        return _masked(np.asarray(vectors(table, "targets"), np.float32), np.asarray(vectors(table, "mask"), np.bool_))
    if alone and set(FERPLUS_VOTES) <= names:
        return vote_shares(table, path=path)
    if names & set(_TARGETS):
        missing = [name for name in _TARGETS if name not in names]
        if missing:
            raise DataError(
                f"{path} lacks the columns {', '.join(missing)}: leave a cell empty (null) where a label is not known"
            )
        values = float_columns(table, _TARGETS, path=path, what="targets", minus_one_is_null=True)
        return _masked(values, ~np.isnan(values))
    labels = {name: label_targets(name) for name in set(classes) if name}
    targets, mask = np.zeros((size, len(EMOTIONS)), np.float32), np.zeros((size, len(EMOTIONS)), np.bool_)
    for row, name in enumerate(classes):
        if name:
            targets[row], mask[row] = labels[name].targets, labels[name].mask
    return _masked(targets, mask)


def _masked(targets: Floats, mask: Bools) -> Shares:
    """Shares with targets of 0 where they are unknown."""
    return Shares(targets=np.where(mask, targets, 0).astype(np.float32), mask=mask)


def _compound_indices(classes: list[str], compounds: tuple[Compound, ...]) -> tuple[Ints, list[str]]:
    """Index in the class set of each name, -1 for any other name; and notes about compounds outside the set."""
    index = {frozenset(compound.pair): number for number, compound in enumerate(compounds)}
    pairs = [_PAIR_OF.get(name) for name in classes]
    out = np.array([index.get(pair, -1) if pair else -1 for pair in pairs], np.int64)
    outside = sum(pair is not None and pair not in index for pair in pairs)
    return out, [f"{outside} rows name a compound outside the {len(compounds)} classes and do not count"] * bool(
        outside
    )


def _action_units(table: pa.Table, *, path: Path, alone: bool) -> tuple[tuple[str, ...], Floats, Bools]:
    """Names, targets and mask of the action units with any known value."""
    names = set(table.column_names)
    if {"au_targets", "au_mask"} <= names:
        every, mask = ACTION_UNITS, np.asarray(vectors(table, "au_mask"), np.bool_)
        values = np.asarray(vectors(table, "au_targets"), np.float32)
    else:
        prefix = "target_" if _target_aus(names) else ""
        every = tuple(name for name in ACTION_UNITS if f"{prefix}{name}" in names and (prefix or alone))
        values = float_columns(
            table, [f"{prefix}{name}" for name in every], path=path, what="action units", minus_one_is_null=True
        )
        mask = ~np.isnan(values)
    kept = np.flatnonzero(mask.any(0))
    targets = np.where(mask, values, 0)[:, kept]
    return tuple(every[index] for index in kept), targets.astype(np.float32), mask[:, kept]
