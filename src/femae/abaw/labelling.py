"""Per track: scores of a face from its probabilities, and the integers of a row from the scores of a frame.

CE: the rule of the paper (section 3.5) over the seven compounds, then the largest score. EXPR: the six probabilities; a
model of six sigmoids has no output for Neutral and Other, which are decided by two thresholds. AU: the probabilities of
Aff-Wild2's twelve units, each with its threshold.
"""

import difflib
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from femae.abaw.film import Film
from femae.abaw.label_file import TRACKS, Track
from femae.compound.rules import Rule, combine, parse_weights
from femae.config.abaw import AuConfig, CeConfig, ExprConfig, WriteConfig
from femae.errors import ConfigError, DataError
from femae.labels import ABAW_COMPOUNDS, AFFWILD2_AUS, EMOTIONS, LABEL_ORDERS, action_unit_name

__all__ = ["AuLabels", "CeLabels", "ExprLabels", "Labels", "labels_of", "parse_class", "parse_thresholds"]

_Values = npt.NDArray[np.float32]
_Integers = npt.NDArray[np.int64]

_NUMBERS: Final = {word: number for number, word in LABEL_ORDERS["affwild2"].items()}
_EXPRESSION_OF: Final = np.array([_NUMBERS[emotion] for emotion in EMOTIONS], np.int64)  # i64[6]


class Labels(Protocol):
    """The labelling of one track, from probabilities to integers."""

    @property
    def track(self) -> Track: ...

    def values(self, film: Film) -> _Values:
        """Scores f32[N, C] of a film's faces. Raises DataError if its table lacks columns that the track needs."""

    def decide(self, values: _Values) -> _Integers:
        """Scores f32[T, C] of frames -> integers i64[T, V] of the label file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CeLabels:
    """The compound with the largest score; ties go to the lowest integer."""

    rule: Rule = "sum"
    weights: _Values | None = None  # f32[6], order of EMOTIONS
    track: Track = TRACKS["ce"]

    def values(self, film: Film) -> _Values:
        return combine(film.probs, compounds=ABAW_COMPOUNDS, rule=self.rule, weights=self.weights)

    def decide(self, values: _Values) -> _Integers:
        return np.asarray(values.argmax(axis=1, keepdims=True), np.int64)


@dataclass(frozen=True, kw_only=True, slots=True)
class ExprLabels:
    """The largest of six probabilities; Neutral below `neutral_below`, Other if the second reaches `other_above`.

    Neutral takes precedence over Other.
    """

    neutral_below: float = 0.5
    other_above: float | None = None
    weights: _Values | None = None  # f32[6], order of EMOTIONS
    track: Track = TRACKS["expr"]

    def values(self, film: Film) -> _Values:
        return film.probs

    def decide(self, values: _Values) -> _Integers:
        weighted = values if self.weights is None else values * self.weights
        labels = _EXPRESSION_OF[np.argmax(weighted, axis=1)]
        second, largest = np.sort(values, axis=1)[:, -2:].T
        if self.other_above is not None:
            labels = np.where(second >= np.float32(self.other_above), _NUMBERS["other"], labels)
        return np.where(largest < np.float32(self.neutral_below), _NUMBERS["neutral"], labels)[:, None]


@dataclass(frozen=True, kw_only=True, slots=True)
class AuLabels:
    """The twelve units of Aff-Wild2, each with its threshold."""

    thresholds: _Values = field(default_factory=lambda: np.full(len(AFFWILD2_AUS), 0.5, np.float32))  # f32[12]
    track: Track = TRACKS["au"]

    def values(self, film: Film) -> _Values:
        if not len(film.frames):
            return np.zeros((0, len(AFFWILD2_AUS)), np.float32)
        missing = [unit for unit in AFFWILD2_AUS if unit not in film.au_names]
        if missing:
            what = "no action units" if len(missing) == len(AFFWILD2_AUS) else f"no column {', '.join(missing)}"
            raise DataError(
                f"{film.name} has {what}; the AU track needs the columns {', '.join(AFFWILD2_AUS)}, which `femae "
                "predict` writes with a model that has an action-unit head (see `femae models FILE`)"
            )
        return film.au_probs[:, [film.au_names.index(unit) for unit in AFFWILD2_AUS]]

    def decide(self, values: _Values) -> _Integers:
        return (values >= self.thresholds).astype(np.int64)


def labels_of(config: WriteConfig) -> Labels:
    """The labelling for a configuration. Raises LabelError, ConfigError for weights and thresholds."""
    if isinstance(config, AuConfig):
        return AuLabels(thresholds=parse_thresholds(config.thresholds, default=config.threshold))
    assert isinstance(config, CeConfig | ExprConfig)
    weights = parse_weights(config.weights) if config.weights else None
    if isinstance(config, CeConfig):
        return CeLabels(rule=config.rule, weights=weights)
    return ExprLabels(neutral_below=config.neutral_below, other_above=config.other_above, weights=weights)


def parse_class(text: str, *, track: Track) -> _Integers:
    """A class by number or name (`3`, `sadly angry`, `Sadly_Angry`) -> i64[V]; for AU 0 or 1, for all units.

    Raises ConfigError, naming the nearest class.
    """
    word = text.strip().casefold().replace("_", " ")
    names = [] if track.name == "au" else [name.casefold() for name in track.classes]
    if word in names:
        number = names.index(word)
    elif word.isdecimal() and int(word) < track.num_levels:
        number = int(word)
    else:
        near = difflib.get_close_matches(word, names, n=1)
        known = [f"{number} {name}" for number, name in enumerate(track.classes)] if names else ["0", "1"]
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise ConfigError(f"'{text}' is not a class of {track.name}; {hint}the classes are {', '.join(known)}")
    return np.full(track.num_values, number, np.int64)


def parse_thresholds(text: str, *, default: float) -> _Values:
    """`AU01=0.4,AU15=0.3` -> f32[12] in Aff-Wild2's order; units not named get `default`.

    Raises LabelError for an unknown action unit, ConfigError for another or repeated one, or a number outside 0..1.
    """
    thresholds = np.full(len(AFFWILD2_AUS), default, np.float32)
    seen: set[str] = set()
    for part in text.split(",") if text.strip() else ():
        name, _, number = (piece.strip() for piece in part.partition("="))
        unit = action_unit_name(name)
        try:
            threshold = float(number)
        except ValueError:
            threshold = float("nan")
        if unit not in AFFWILD2_AUS or unit in seen or not 0 <= threshold <= 1:
            raise ConfigError(
                f"'{part.strip()}' is not a threshold: expected UNIT=NUMBER, with each unit once and a number from "
                f"0 to 1; the units are {', '.join(AFFWILD2_AUS)}"
            )
        seen.add(unit)
        thresholds[AFFWILD2_AUS.index(unit)] = threshold
    return thresholds
