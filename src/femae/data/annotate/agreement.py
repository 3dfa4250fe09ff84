"""Agreement between annotators, and a report on each.

Per label (chosen or not): Krippendorff's alpha, nominal, and the share of pairs of ballots on one face that agree.
Overall: alpha over whole answers with the distance 1 - |A and B| / |A or B| between two sets of labels (Jaccard), and
the mean of that likeness over pairs. Alpha is 1 for perfect agreement, 0 for chance, None where it is not defined
(fewer than two ballots on every face, or one value only). Faces with one ballot say nothing about agreement.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from femae.data.annotate.label_studio import CHOICES, Ballot, Ballots
from femae.metrics.tables import markdown_table

__all__ = ["Agreement", "AnnotatorReport", "LabelAgreement", "measure_agreement"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_NUM_BITS = np.array([value.bit_count() for value in range(1 << len(CHOICES))])


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelAgreement:
    """Agreement on one label."""

    label: str
    share: float  # of the ballots that chose it
    alpha: float | None
    pairwise: float | None  # share of pairs that agree


@dataclass(frozen=True, kw_only=True, slots=True)
class AnnotatorReport:
    """One person's work."""

    annotator: str
    num_ballots: int
    num_skipped: int
    likeness: float | None  # mean Jaccard likeness to the other ballots on the same faces
    exact: float | None  # share of those with exactly the same choices
    median_time_s: float | None
    shares: dict[str, float]  # label -> share of this person's ballots


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """All figures of one import."""

    num_faces: int  # with at least one ballot
    num_faces_with_pairs: int  # with at least two
    num_ballots: int
    alpha: float | None
    likeness: float | None
    exact: float | None
    labels: tuple[LabelAgreement, ...]
    annotators: tuple[AnnotatorReport, ...]

    def markdown(self) -> str:
        """The figures as a page of tables."""
        head = (
            f"# Agreement\n\n{self.num_ballots} ballots of {len(self.annotators)} annotators "
            f"on {self.num_faces} faces, {self.num_faces_with_pairs} of them with at least two.\n\n"
            f"Overall: Krippendorff's alpha {_number(self.alpha)} (sets of labels, Jaccard distance), similarity of "
            f"two ballots {_number(self.likeness)}, exact agreement {_number(self.exact)}.\n\n"
        )
        labels = markdown_table(
            ("label", "share", "alpha", "pairwise"),
            [(one.label, _number(one.share), _number(one.alpha), _number(one.pairwise)) for one in self.labels],
            num_text=4,
        )
        people = markdown_table(
            ("annotator", "ballots", "skipped", "likeness", "exact", "median s", *CHOICES),
            [
                (
                    one.annotator,
                    str(one.num_ballots),
                    str(one.num_skipped),
                    _number(one.likeness),
                    _number(one.exact),
                    _number(one.median_time_s, digits=1),
                    *(_number(one.shares[name], digits=2) for name in CHOICES),
                )
                for one in self.annotators
            ],
            num_text=6 + len(CHOICES),
        )
        return f"{head}## Labels\n\n{labels}\n## Annotators\n\n{people}"

    def annotator_rows(self) -> list[dict[str, Any]]:
        """Flat rows for a table."""
        return [
            {
                "annotator": one.annotator,
                "num_ballots": one.num_ballots,
                "num_skipped": one.num_skipped,
                "likeness": one.likeness,
                "exact": one.exact,
                "median_time_s": one.median_time_s,
                **{f"share_{name.lower()}": one.shares[name] for name in CHOICES},
            }
            for one in self.annotators
        ]

    def label_rows(self) -> list[dict[str, Any]]:
        rows = [
            {"label": one.label, "share": one.share, "alpha": one.alpha, "pairwise": one.pairwise}
            for one in self.labels
        ]
        return [*rows, {"label": "(all)", "share": None, "alpha": self.alpha, "pairwise": self.likeness}]


def measure_agreement(ballots: Ballots) -> Agreement:
    """All figures of the ballots of an import."""
    faces = _by_face(ballots.ballots)
    pairs = [pair for group in faces for pair in combinations(group, 2)]
    sets = np.array([[int(name in one.choices) for name in CHOICES] for one in ballots.ballots], np.int64)
    counts = _counts(faces, lambda one: sum(1 << CHOICES.index(name) for name in one.choices), 1 << len(CHOICES))
    return Agreement(
        num_faces=len(faces),
        num_faces_with_pairs=sum(len(group) > 1 for group in faces),
        num_ballots=len(ballots.ballots),
        alpha=_alpha(counts, _jaccard_distance),
        likeness=_mean(_likeness(a, b) for a, b in pairs),
        exact=_mean(float(a.choices == b.choices) for a, b in pairs),
        labels=tuple(
            LabelAgreement(
                label=name,
                share=float(sets[:, position].mean()) if len(sets) else 0.0,
                alpha=_alpha(_counts(faces, lambda one, name=name: int(name in one.choices), 2), _differ),
                pairwise=_mean(float((name in a.choices) == (name in b.choices)) for a, b in pairs),
            )
            for position, name in enumerate(CHOICES)
        ),
        annotators=_annotators(ballots, faces),
    )


def _by_face(ballots: Sequence[Ballot]) -> list[list[Ballot]]:
    faces: dict[tuple[str, str], list[Ballot]] = {}
    for ballot in ballots:
        faces.setdefault((ballot.source, ballot.key), []).append(ballot)
    return list(faces.values())


def _counts(faces: Sequence[Sequence[Ballot]], value: Any, num_values: int) -> npt.NDArray[np.int64]:
    """i64[F, V]: how many ballots on a face have each value."""
    counts = np.zeros((len(faces), num_values), np.int64)
    for row, group in enumerate(faces):
        for ballot in group:
            counts[row, value(ballot)] += 1
    return counts


def _alpha(counts: npt.NDArray[np.int64], distance: Callable[[Ints, Ints], Floats]) -> float | None:
    """1 less observed over expected disagreement (Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability").

    counts i64[F, V]: ballots on each face with each value; distance: of values a and b, 0 for equal ones.
    """
    pairable = counts[counts.sum(1) > 1]
    values = np.flatnonzero(pairable.any(0))
    if len(values) < 2:
        return None
    used = pairable[:, values].astype(np.float64)
    apart = distance(values[:, None], values[None, :])
    total, sizes = used.sum(0), used.sum(1)
    observed = float((((used @ apart) * used).sum(1) / (sizes - 1)).sum())
    expected = float(total @ apart @ total) / (total.sum() - 1)
    return float(1 - observed / expected)


def _differ(a: Ints, b: Ints) -> Floats:
    """Nominal: 1 for values that differ."""
    return np.asarray(a != b, np.float64)


def _jaccard_distance(a: Ints, b: Ints) -> Floats:
    """Distance of two sets of labels written as bits."""
    return np.asarray(1 - _NUM_BITS[a & b] / np.maximum(_NUM_BITS[a | b], 1), np.float64)


def _likeness(first: Ballot, second: Ballot) -> float:
    return len(first.choices & second.choices) / len(first.choices | second.choices)


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return float(np.mean(found)) if found else None


def _annotators(ballots: Ballots, faces: Sequence[Sequence[Ballot]]) -> tuple[AnnotatorReport, ...]:
    own: dict[str, list[Ballot]] = {}
    others: dict[str, list[tuple[Ballot, Ballot]]] = {}
    for group in faces:
        for ballot in group:
            own.setdefault(ballot.annotator, []).append(ballot)
            rest = [(ballot, other) for other in group if other is not ballot]
            others.setdefault(ballot.annotator, []).extend(rest)
    people = sorted({*own, *ballots.num_skipped})
    return tuple(
        AnnotatorReport(
            annotator=person,
            num_ballots=len(own.get(person, ())),
            num_skipped=ballots.num_skipped.get(person, 0),
            likeness=_mean(_likeness(a, b) for a, b in others.get(person, ())),
            exact=_mean(float(a.choices == b.choices) for a, b in others.get(person, ())),
            median_time_s=_median([one.lead_time_s for one in own.get(person, ()) if one.lead_time_s is not None]),
            shares={name: _mean(float(name in one.choices) for one in own.get(person, ())) or 0.0 for name in CHOICES},
        )
        for person in people
    )


def _median(values: Sequence[float]) -> float | None:
    return float(median(values)) if values else None


def _number(value: float | None, *, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
