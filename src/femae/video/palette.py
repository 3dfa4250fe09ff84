"""The colours of labels, written once for films, pages, figures and windows.

The six emotions and `none` lie at least 20 CIELAB units apart for every reader, those who see no red, no green or no
blue included, and dark letters can be read on all six (tests/video/test_palette.py measures both). A compound has the
colours of its two emotions, one above the other; `none` is gray and drawn thinner than the others.
"""

from collections.abc import Sequence
from typing import Any, Final

from femae.labels import EMOTIONS, NO_EXPRESSION, Compound, Emotion
from femae.video.paint import Rgb

__all__ = ["EMOTION_COLOURS", "INK", "NONE_COLOUR", "hex_colour", "label_colours", "label_emotions", "label_styles"]

EMOTION_COLOURS: Final[dict[Emotion, Rgb]] = {
    "surprise": (255, 231, 18),
    "fear": (174, 115, 176),
    "disgust": (10, 147, 97),
    "happiness": (249, 136, 0),
    "sadness": (92, 193, 249),
    "anger": (218, 80, 35),
}
NONE_COLOUR: Final[Rgb] = (102, 106, 114)
INK: Final[Rgb] = (17, 17, 17)  # letters on the colours of emotions
_SHORT: Final = 3  # letters of an emotion where its name has no room


def hex_colour(colour: Rgb) -> str:
    """#rrggbb."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def label_colours(name: str, compounds: Sequence[Compound]) -> tuple[Rgb, ...]:
    """One colour for `none` and for an emotion, two for a compound, none for a label that is empty or unknown."""
    if name == NO_EXPRESSION:
        return (NONE_COLOUR,)
    return tuple(EMOTION_COLOURS[emotion] for emotion in label_emotions(name, compounds))


def label_emotions(name: str, compounds: Sequence[Compound]) -> tuple[Emotion, ...]:
    """The emotions that a label names: itself, the two of a compound, or none."""
    if name in EMOTIONS:
        return (name,)
    return next((compound.pair for compound in compounds if compound.name == name), ())


def label_styles(names: Sequence[str], compounds: Sequence[Compound]) -> list[dict[str, Any]]:
    """What scripts and templates need to draw each label: name, code for small places, colours, whether it is quiet."""
    return [
        {
            "name": name,
            "code": _code(name),
            "colours": [hex_colour(colour) for colour in label_colours(name, compounds)],
            "quiet": name == NO_EXPRESSION,
        }
        for name in names
    ]


def _code(name: str) -> str:
    """hap for happiness, FS for Fearfully Surprised."""
    return name[:_SHORT] if name in EMOTIONS else "".join(word[0] for word in name.split() if word != NO_EXPRESSION)
