"""All labels of the project: six basic emotions, compound classes, action units.

Label orders are defined only here. `EMOTIONS` is the order of the paper (section 1), `ABAW_COMPOUNDS` that of the class
indices of the 6th ABAW challenge, `RAF_DB_COMPOUNDS` that of the labels 1..11 of RAF-DB's compound part, `LABEL_ORDERS`
the numbering of each data set, the `*_AUS` the order of its action units.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, get_args

from femae.errors import LabelError

__all__ = [
    "ABAW_COMPOUNDS",
    "ACTION_UNIT_WORDS",
    "AFFWILD2_AUS",
    "AFFWILD2_OLD_AUS",
    "BP4D_AUS",
    "CLASS_SETS",
    "COMPOUNDS",
    "DISFA_AUS",
    "EMOTIONS",
    "FERPLUS_VOTES",
    "LABEL_ORDERS",
    "NO_EXPRESSION",
    "OTHER_EXPRESSIONS",
    "RAF_DB_COMPOUNDS",
    "Compound",
    "Emotion",
    "action_unit_name",
    "compound_from_pair",
    "emotion_indices",
    "parse_class_set",
    "parse_label",
]

Emotion = Literal["surprise", "fear", "disgust", "happiness", "sadness", "anger"]
EMOTIONS: Final[tuple[Emotion, ...]] = get_args(Emotion)

# The label of a face that shows none of the six emotions, and the name of the corresponding model output.
NO_EXPRESSION: Final = "none"

# Forms of an emotion as the first and the second word of a compound's name.
_ADVERBS: Final = {
    "surprise": "surprisedly",
    "fear": "fearfully",
    "disgust": "disgustedly",
    "happiness": "happily",
    "sadness": "sadly",
    "anger": "angrily",
}
_ADJECTIVES: Final = {
    "surprise": "surprised",
    "fear": "fearful",
    "disgust": "disgusted",
    "happiness": "happy",
    "sadness": "sad",
    "anger": "angry",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Compound:
    """A compound expression: two different basic emotions and the name of the pair."""

    name: str  # for people: "Fearfully Surprised"
    column: str  # column of the tables: "fearfully_surprised"
    pair: tuple[Emotion, Emotion]


def compound_from_pair(first: str, second: str) -> Compound:
    """The compound of two emotions, e.g. ("fear", "surprise") -> Fearfully Surprised.

    Raises LabelError when a name is not one of EMOTIONS or both are the same.
    """
    for emotion in (first, second):
        if emotion not in EMOTIONS:
            raise LabelError(f"'{emotion}' is not a basic emotion; the six are: {', '.join(EMOTIONS)}")
    if first == second:
        raise LabelError(f"a compound needs two different emotions, not '{first}' twice")
    column = f"{_ADVERBS[first]}_{_ADJECTIVES[second]}"
    name = column.replace("_", " ").title()
    return Compound(name=name, column=column, pair=(first, second))  # type: ignore[arg-type]


ABAW_COMPOUNDS: Final[tuple[Compound, ...]] = tuple(
    compound_from_pair(first, second)
    for first, second in (
        ("fear", "surprise"),
        ("happiness", "surprise"),
        ("sadness", "surprise"),
        ("disgust", "surprise"),
        ("anger", "surprise"),
        ("sadness", "fear"),
        ("sadness", "anger"),
    )
)

RAF_DB_COMPOUNDS: Final[tuple[Compound, ...]] = tuple(
    compound_from_pair(first, second)
    for first, second in (
        ("happiness", "surprise"),
        ("happiness", "disgust"),
        ("sadness", "fear"),
        ("sadness", "anger"),
        ("sadness", "surprise"),
        ("sadness", "disgust"),
        ("fear", "anger"),
        ("fear", "surprise"),
        ("anger", "surprise"),
        ("anger", "disgust"),
        ("disgust", "surprise"),
    )
)

CLASS_SETS: Final = {"abaw": ABAW_COMPOUNDS, "raf-db": RAF_DB_COMPOUNDS}


def parse_class_set(text: str) -> tuple[Compound, ...]:
    """Parse a class set: `abaw`, `raf-db`, or pairs of emotions such as `fear+surprise,anger+disgust`.

    Raises LabelError for an unknown set, a malformed pair or a duplicate pair.
    """
    if text in CLASS_SETS:
        return CLASS_SETS[text]
    pairs = [part.strip().split("+") for part in text.split(",")]
    if any(len(pair) != 2 for pair in pairs):
        known = ", ".join(CLASS_SETS)
        raise LabelError(
            f"'{text}' is not a class set: give one of {known}, or pairs of emotions such as fear+surprise,anger+fear"
        )
    compounds = tuple(compound_from_pair(first.strip().lower(), second.strip().lower()) for first, second in pairs)
    seen: set[frozenset[str]] = set()
    for compound in compounds:
        if frozenset(compound.pair) in seen:
            raise LabelError(f"the pair {'+'.join(compound.pair)} appears twice in '{text}'")
        seen.add(frozenset(compound.pair))
    return compounds


def emotion_indices(compounds: tuple[Compound, ...]) -> list[tuple[int, int]]:
    """Indices in EMOTIONS of each compound's two emotions."""
    return [(EMOTIONS.index(c.pair[0]), EMOTIONS.index(c.pair[1])) for c in compounds]


# All compounds that occur in the supported data sets: RAF-DB's eleven include the seven of ABAW.
COMPOUNDS: Final = RAF_DB_COMPOUNDS

# Labels of data sets besides the six emotions and their compounds.
OTHER_EXPRESSIONS: Final = ("neutral", "contempt", "other", "none", "uncertain", "unknown", "no face")


def _numbered(first: int, words: str) -> Mapping[int, str]:
    return dict(enumerate(words.split(), first))


# Data set -> its label number -> label as returned by `parse_label`.
LABEL_ORDERS: Final[Mapping[str, Mapping[int, str]]] = {
    "abaw-compound": {**{i: c.name for i, c in enumerate(ABAW_COMPOUNDS)}, 7: "other"},
    "affectnet": {
        **_numbered(0, "neutral happiness sadness surprise fear disgust anger contempt none uncertain"),
        10: "no face",
    },
    "affwild2": _numbered(0, "neutral anger disgust fear happiness sadness surprise other"),
    "fer2013": _numbered(0, "anger disgust fear happiness sadness surprise neutral"),
    "raf-db-basic": _numbered(1, "surprise fear disgust happiness sadness anger neutral"),
    "raf-db-compound": {i: c.name for i, c in enumerate(RAF_DB_COMPOUNDS, 1)},
}

# The ten vote columns of FER+ in the order of its CSV file; the last two mean that there is no recognisable expression.
FERPLUS_VOTES: Final = (
    *("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"),
    *("unknown", "NF"),
)


def _units(numbers: str) -> tuple[str, ...]:
    return tuple(f"AU{int(number):02d}" for number in numbers.split())


# Names of the action units in the Facial Action Coding System (Ekman, Friesen and Hager 2002).
ACTION_UNIT_WORDS: Final[Mapping[str, str]] = {
    "AU01": "inner brow raiser",
    "AU02": "outer brow raiser",
    "AU04": "brow lowerer",
    "AU05": "upper lid raiser",
    "AU06": "cheek raiser",
    "AU07": "lid tightener",
    "AU09": "nose wrinkler",
    "AU10": "upper lip raiser",
    "AU11": "nasolabial deepener",
    "AU12": "lip corner puller",
    "AU13": "sharp lip puller",
    "AU14": "dimpler",
    "AU15": "lip corner depressor",
    "AU16": "lower lip depressor",
    "AU17": "chin raiser",
    "AU18": "lip pucker",
    "AU20": "lip stretcher",
    "AU22": "lip funneler",
    "AU23": "lip tightener",
    "AU24": "lip pressor",
    "AU25": "lips part",
    "AU26": "jaw drop",
    "AU27": "mouth stretch",
    "AU28": "lip suck",
    "AU43": "eyes closed",
    "AU45": "blink",
}

AFFWILD2_AUS: Final = _units("1 2 4 6 7 10 12 15 23 24 25 26")
AFFWILD2_OLD_AUS: Final = _units("1 2 4 6 12 15 20 25")  # of the first two challenges
BP4D_AUS: Final = _units("1 2 4 6 7 10 12 14 15 17 23 24")
DISFA_AUS: Final = _units("1 2 4 5 6 9 12 15 17 20 25 26")

_SYNONYMS: Final[Mapping[str, str]] = {
    "surprise": "surprise surprised surprisedly astonished su",
    "fear": "fear fearful fearfully afraid scared fe",
    "disgust": "disgust disgusted disgustedly di",
    "happiness": "happiness happy happily joy joyful ha",
    "sadness": "sadness sad sadly sa",
    "anger": "anger angry angrily an",
    "neutral": "neutral neutrality calm ne",
    "contempt": "contempt contemptuous contemptuously co",
    "other": "other others",
    "none": "none",
    "uncertain": "uncertain",
    "unknown": "unknown",
    "no face": "noface nf",
}
_WORDS: Final = {word: label for label, words in _SYNONYMS.items() for word in words.split()}


@lru_cache(maxsize=4096)
def parse_label(text: str) -> str:
    """Normalise a label to an emotion, a compound's name ("Sadly Angry"), or one of OTHER_EXPRESSIONS.

    Accepts synonyms (`Happy`, `joy`), any case, and for compounds `Fearfully_Surprised`, `fear+surprise` and
    `surprise, fear`. Raises LabelError for any other text.
    """
    words = [word for word in re.split(r"[\W_]+", text.strip().lower()) if word]
    if words and "".join(words) in _WORDS:
        return _WORDS["".join(words)]
    pair = [_WORDS[word] for word in words if word in _WORDS]
    if len(words) != 2 or len(pair) != 2 or pair[0] == pair[1] or not set(pair) <= set(EMOTIONS):
        raise LabelError(
            f"'{text}' is not a label: expected one of {', '.join((*EMOTIONS, *OTHER_EXPRESSIONS))}, "
            "or a compound such as Fearfully Surprised or fear+surprise"
        )
    for compound in COMPOUNDS:
        if set(compound.pair) == set(pair):
            return compound.name
    later, earlier = sorted(pair, key=EMOTIONS.index, reverse=True)
    return compound_from_pair(later, earlier).name


def action_unit_name(text: str | int) -> str:
    """Normalise `AU1`, `au_01`, `AU01` or 1 to `AU01`. Raises LabelError unless the number is in 1..99."""
    match = re.fullmatch(r"(?:au[ _-]?)?0*([1-9]\d?)", str(text).strip().lower())
    if match is None:
        raise LabelError(f"'{text}' is not an action unit: expected a name such as AU1, AU01 or 1")
    return f"AU{int(match[1]):02d}"
