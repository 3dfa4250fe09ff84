"""What is judged: for each labelled sample the probabilities, or that there are none, and what is known of it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from femae.labels import EMOTIONS

__all__ = ["Labels", "Samples"]

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Labels:
    """What is known of N samples."""

    targets: Floats  # f32[N, 6], 0..1, order of EMOTIONS; 0 where not known
    mask: Bools  # bool[N, 6], True: known
    top: Ints  # i64[N], the one emotion; -1: none
    compound: Ints  # i64[N], position in the class set; -1: none
    expression: Ints  # i64[N], the label for people, as ExpressionRule.names counts; -1: unclear
    au_names: tuple[str, ...]
    au_targets: Floats  # f32[N, A]
    au_mask: Bools  # bool[N, A]
    notes: tuple[str, ...] = ()  # sentences on what was left out


@dataclass(frozen=True, kw_only=True, slots=True)
class Samples:
    """N labelled samples and their predictions."""

    probs: Floats  # f32[N, 6]; NaN: no face found, or no prediction at all
    au_probs: Floats  # f32[N, A], order of labels.au_names
    labels: Labels
    groups: Ints  # i64[N], number of the person or film
    columns: pa.Table  # N rows: whatever else is known, for subgroups
    answers: tuple[Ints, npt.NDArray[np.float64]] | None = None  # expression given and its probability; None: no column
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
