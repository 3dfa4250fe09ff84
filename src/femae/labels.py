"""Every label the project knows: six basic emotions, compound classes, action units.

The orders below are the only ones in the project. `EMOTIONS` is the order of the paper (section 1), `ABAW_COMPOUNDS`
the integers of the 6th ABAW challenge, `RAF_DB_COMPOUNDS` the labels 1..11 of RAF-DB's compound part.
"""

from dataclasses import dataclass
from typing import Final, Literal, get_args

from femae.errors import LabelError

__all__ = [
    "ABAW_COMPOUNDS",
    "CLASS_SETS",
    "EMOTIONS",
    "RAF_DB_COMPOUNDS",
    "Compound",
    "Emotion",
    "compound_from_pair",
    "emotion_indices",
    "parse_class_set",
]

Emotion = Literal["surprise", "fear", "disgust", "happiness", "sadness", "anger"]
EMOTIONS: Final[tuple[Emotion, ...]] = get_args(Emotion)

# How an emotion is said as the first and as the second word of a compound's name.
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

    name: str  # in words: "Fearfully Surprised"
    column: str  # of the tables: "fearfully_surprised"
    pair: tuple[Emotion, Emotion]


def compound_from_pair(first: str, second: str) -> Compound:
    """Name the compound of two emotions, e.g. ("fear", "surprise") -> Fearfully Surprised.

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
    """`abaw`, `raf-db`, or pairs of the user's own such as `fear+surprise,anger+disgust`.

    Raises LabelError for an unknown set, a malformed pair or a pair named twice.
    """
    if text in CLASS_SETS:
        return CLASS_SETS[text]
    pairs = [part.strip().split("+") for part in text.split(",")]
    if any(len(pair) != 2 for pair in pairs):
        known = ", ".join(CLASS_SETS)
        raise LabelError(
            f"'{text}' is not a class set: give one of {known}, or pairs of emotions such as fear+surprise,anger+disgust"
        )
    compounds = tuple(compound_from_pair(first.strip().lower(), second.strip().lower()) for first, second in pairs)
    seen: set[frozenset[str]] = set()
    for compound in compounds:
        if frozenset(compound.pair) in seen:
            raise LabelError(f"the pair {'+'.join(compound.pair)} stands twice in '{text}'")
        seen.add(frozenset(compound.pair))
    return compounds


def emotion_indices(compounds: tuple[Compound, ...]) -> list[tuple[int, int]]:
    """Positions in EMOTIONS of each compound's two emotions."""
    return [(EMOTIONS.index(c.pair[0]), EMOTIONS.index(c.pair[1])) for c in compounds]
