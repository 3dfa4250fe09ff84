"""Shares of votes: the six targets, and from them the one emotion or the one pair that a face shows."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from femae.data.targets import vote_targets
from femae.errors import DataError
from femae.evaluation.samples import Bools, Floats, Ints
from femae.evaluation.tables import float_column
from femae.labels import EMOTIONS, FERPLUS_VOTES
from femae.metrics.hard_labels import top_emotion, top_expression, top_pair

__all__ = ["Shares", "Votes", "vote_shares"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Votes:
    """Shares of all votes cast, unlike targets, which are shares of those that name an expression."""

    six: Floats  # f32[N, 6]
    neutral: Floats  # f32[N]
    nothing: Floats  # f32[N]: the larger of the two that say that no expression, or no face, can be told
    no_face: Bools  # bool[N]: at least one vote says so


@dataclass(frozen=True, kw_only=True, slots=True)
class Shares:
    """Targets f32[N, 6] with 0 where mask bool[N, 6] is False, and the votes where they are at hand."""

    targets: Floats
    mask: Bools
    votes: Votes | None = None

    def top(self) -> Ints:
        """The one emotion i64[N], -1 for none: metrics.hard_labels; of votes only without a vote for no face."""
        if self.votes is None:
            return top_emotion(self.targets, mask=self.mask)
        top = top_emotion(self.votes.six, neutral=self.votes.neutral)
        return np.asarray(np.where(self.votes.no_face, -1, top), np.int64)

    def pair(self, pairs: list[tuple[int, int]]) -> Ints:
        """The one pair of emotions i64[N], -1 for none; of votes only where `nothing` is not above the first."""
        if self.votes is None:
            return top_pair(self.targets, pairs=pairs, mask=self.mask)
        against = np.maximum(self.votes.neutral, self.votes.nothing)
        return top_pair(self.votes.six, pairs=pairs, neutral=against)

    def expression(self) -> Ints:
        """None (0) or the one emotion (1 to 6) i64[N], -1 unclear, where there is no compound; as `top` of votes."""
        if self.votes is None:
            return top_expression(self.targets, pairs=(), mask=self.mask)
        clear = top_expression(self.votes.six, pairs=(), neutral=self.votes.neutral)
        return np.asarray(np.where(self.votes.no_face, -1, clear), np.int64)


def vote_shares(table: pa.Table, *, path: Path) -> Shares:
    """Shares from the ten vote columns of FER+. Raises DataError where votes are missing or negative."""
    votes = np.stack([float_column(table, name, path=path) for name in FERPLUS_VOTES], axis=1)
    wrong = np.flatnonzero(~(votes >= 0).all(1))
    if wrong.size:
        raise DataError(f"{path}, row {wrong[0] + 1}: votes are missing or negative; expected ten counts from 0")
    column = {name: votes[:, place] / np.maximum(votes.sum(1), 1) for place, name in enumerate(FERPLUS_VOTES)}
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
