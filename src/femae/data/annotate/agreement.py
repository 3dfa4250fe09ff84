"""Agreement between annotators, and statistics of each.

Per label (chosen or not): nominal Krippendorff's alpha, and the share of pairs of ballots on one face that agree.
Overall: alpha over whole ballots with the Jaccard distance 1 - |A and B| / |A or B| between two sets of labels, and the
mean similarity over pairs. Alpha is 1 for perfect agreement, 0 for chance, None if it is not defined (fewer than two
ballots on every face, or only one value). Faces with one ballot do not count.
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
    share: float  # share of ballots that chose it
    alpha: float | None
    pairwise: float | None  # share of pairs that agree


@dataclass(frozen=True, kw_only=True, slots=True)
class AnnotatorReport:
    """Statistics of one annotator."""

    annotator: str
    num_ballots: int
    num_skipped: int
    likeness: float | None  # mean Jaccard similarity to the other ballots on the same faces
    exact: float | None  # share of these with exactly the same choices
    median_time_s: float | None
    shares: dict[str, float]  # label -> share of the annotator's ballots


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """Agreement over all ballots of an import."""

    num_faces: int  # with at least one ballot
    num_faces_with_pairs: int  # with at least two
    num_ballots: int
    alpha: float | None
    likeness: float | None  # mean Jaccard similarity of pairs
    exact: float | None  # share of pairs with exactly the same choices
    labels: tuple[LabelAgreement, ...]
    annotators: tuple[AnnotatorReport, ...]

    def markdown(self) -> str:
        """The statistics as tables in Markdown."""
        head = (
            f"# Agreement\n\n{self.num_ballots} ballots of {len(self.annotators)} annotators "
            f"on {self.num_faces} faces, {self.num_faces_with_pairs} of them with at least two.\n\n"
            f"Overall: Krippendorff's alpha {_number(self.alpha)} (sets of labels, Jaccard distance), similarity of "
            f"two ballots {_number(self.likeness)}, exact agreement {_number(self.exact)}.\n\n"
        )
        labels = markdown_table(
            ("label", "share", "alpha", "pairwise"),
            [(item.label, _number(item.share), _number(item.alpha), _number(item.pairwise)) for item in self.labels],
            num_text=4,
        )
        annotators = markdown_table(
            ("annotator", "ballots", "skipped", "likeness", "exact", "median s", *CHOICES),
            [
                (
                    item.annotator,
                    str(item.num_ballots),
                    str(item.num_skipped),
                    _number(item.likeness),
                    _number(item.exact),
                    _number(item.median_time_s, digits=1),
                    *(_number(item.shares[name], digits=2) for name in CHOICES),
                )
                for item in self.annotators
            ],
            num_text=6 + len(CHOICES),
        )
        return f"{head}## Labels\n\n{labels}\n## Annotators\n\n{annotators}"

    def annotator_rows(self) -> list[dict[str, Any]]:
        """Rows for a table, one per annotator."""
        return [
            {
                "annotator": item.annotator,
                "num_ballots": item.num_ballots,
                "num_skipped": item.num_skipped,
                "likeness": item.likeness,
                "exact": item.exact,
                "median_time_s": item.median_time_s,
                **{f"share_{name.lower()}": item.shares[name] for name in CHOICES},
            }
            for item in self.annotators
        ]

    def label_rows(self) -> list[dict[str, Any]]:
        """Rows for a table, one per label and one for all."""
        rows = [
            {"label": item.label, "share": item.share, "alpha": item.alpha, "pairwise": item.pairwise}
            for item in self.labels
        ]
        return [*rows, {"label": "(all)", "share": None, "alpha": self.alpha, "pairwise": self.likeness}]


def measure_agreement(ballots: Ballots) -> Agreement:
    """Compute the agreement of all ballots of an import."""
    faces = _by_face(ballots.ballots)
    pairs = [pair for group in faces for pair in combinations(group, 2)]
    sets = np.array([[int(name in item.choices) for name in CHOICES] for item in ballots.ballots], np.int64)
    counts = _counts(faces, lambda item: sum(1 << CHOICES.index(name) for name in item.choices), 1 << len(CHOICES))
    return Agreement(
        num_faces=len(faces),
        num_faces_with_pairs=sum(len(group) > 1 for group in faces),
        num_ballots=len(ballots.ballots),
        alpha=_alpha(counts, _jaccard_distance),
        likeness=_mean(_similarity(a, b) for a, b in pairs),
        exact=_mean(float(a.choices == b.choices) for a, b in pairs),
        labels=tuple(
            LabelAgreement(
                label=name,
                share=float(sets[:, position].mean()) if len(sets) else 0.0,
                alpha=_alpha(_counts(faces, lambda item, name=name: int(name in item.choices), 2), _nominal_distance),
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
    """i64[F, V]: the number of ballots on each face with each value."""
    counts = np.zeros((len(faces), num_values), np.int64)
    for row, group in enumerate(faces):
        for ballot in group:
            counts[row, value(ballot)] += 1
    return counts


def _alpha(counts: npt.NDArray[np.int64], distance: Callable[[Ints, Ints], Floats]) -> float | None:
    """1 - observed / expected disagreement (Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability").

    counts i64[F, V]: ballots on each face with each value; distance: of values a and b, 0 for equal ones. None if it is
    not defined.
    """
    pairable = counts[counts.sum(1) > 1]
    values = np.flatnonzero(pairable.any(0))
    if len(values) < 2:
        return None
    used = pairable[:, values].astype(np.float64)
    distances = distance(values[:, None], values[None, :])
    total, sizes = used.sum(0), used.sum(1)
    observed = float((((used @ distances) * used).sum(1) / (sizes - 1)).sum())
    expected = float(total @ distances @ total) / (total.sum() - 1)
    return float(1 - observed / expected)


def _nominal_distance(a: Ints, b: Ints) -> Floats:
    """1 for different values, 0 for equal ones."""
    return np.asarray(a != b, np.float64)


def _jaccard_distance(a: Ints, b: Ints) -> Floats:
    """Jaccard distance of sets of labels, encoded as bits."""
    return np.asarray(1 - _NUM_BITS[a & b] / np.maximum(_NUM_BITS[a | b], 1), np.float64)


def _similarity(first: Ballot, second: Ballot) -> float:
    return len(first.choices & second.choices) / len(first.choices | second.choices)


def _mean(values: Iterable[float]) -> float | None:
    numbers = list(values)
    return float(np.mean(numbers)) if numbers else None


def _annotators(ballots: Ballots, faces: Sequence[Sequence[Ballot]]) -> tuple[AnnotatorReport, ...]:
    own: dict[str, list[Ballot]] = {}
    others: dict[str, list[tuple[Ballot, Ballot]]] = {}
    for group in faces:
        for ballot in group:
            own.setdefault(ballot.annotator, []).append(ballot)
            rest = [(ballot, other) for other in group if other is not ballot]
            others.setdefault(ballot.annotator, []).extend(rest)
    annotators = sorted({*own, *ballots.num_skipped})
    return tuple(
        AnnotatorReport(
            annotator=annotator,
            num_ballots=len(own.get(annotator, ())),
            num_skipped=ballots.num_skipped.get(annotator, 0),
            likeness=_mean(_similarity(a, b) for a, b in others.get(annotator, ())),
            exact=_mean(float(a.choices == b.choices) for a, b in others.get(annotator, ())),
            median_time_s=_median(
                [item.lead_time_s for item in own.get(annotator, ()) if item.lead_time_s is not None]
            ),
            shares={
                name: _mean(float(name in item.choices) for item in own.get(annotator, ())) or 0.0 for name in CHOICES
            },
        )
        for annotator in annotators
    )


def _median(values: Sequence[float]) -> float | None:
    return float(median(values)) if values else None


def _number(value: float | None, *, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
