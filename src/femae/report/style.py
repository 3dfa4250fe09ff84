"""Colours, dashes and symbols of the series: Okabe and Ito's palette, and never by colour alone."""

from typing import Any, Final

from femae.labels import EMOTIONS, Compound
from femae.video.palette import EMOTION_COLOURS

__all__ = [
    "OKABE_ITO",
    "action_unit_style",
    "compound_code",
    "compound_colour",
    "compound_style",
    "emotion_colour",
    "emotion_style",
]

OKABE_ITO: Final = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#0072B2", "#D55E00", "black", "#F0E442")
_DARK: Final = frozenset(("#0072B2", "#D55E00", "#009E73", "black"))  # white letters on these
_SECOND_ROUND: Final = [6, 3]  # dashes of the ninth series and on


def emotion_colour(emotion: str) -> str:
    """The colour of an emotion's bar in the annotated film."""
    return "#{:02X}{:02X}{:02X}".format(*EMOTION_COLOURS[emotion])  # type: ignore[index]


def compound_colour(number: int) -> str:
    """By position in the class set; `black` is drawn light on a dark ground."""
    return OKABE_ITO[number % len(OKABE_ITO)]


def compound_code(compound: Compound) -> str:
    """The initials of its two words: FS for Fearfully Surprised."""
    return "".join(word[0] for word in compound.name.split())


def _style(number: int, colour: str, key: str, name: str) -> dict[str, Any]:
    dash = _SECOND_ROUND if number >= len(OKABE_ITO) else []
    cased = colour.upper() == "#F0E442"  # yellow on white needs an outline
    return {
        "key": key,
        "name": name,
        "colour": colour,
        "dash": dash,
        "symbol": number % 8,
        "cased": cased,
        "number": number,
    }


def emotion_style() -> list[dict[str, Any]]:
    return [_style(n, emotion_colour(emotion), emotion, emotion) for n, emotion in enumerate(EMOTIONS)]


def compound_style(compounds: tuple[Compound, ...]) -> list[dict[str, Any]]:
    return [
        _style(n, compound_colour(n), compound.column, compound.name)
        | {"code": compound_code(compound), "dark": compound_colour(n) in _DARK}
        for n, compound in enumerate(compounds)
    ]


def action_unit_style(names: tuple[str, ...]) -> list[dict[str, Any]]:
    return [_style(n, OKABE_ITO[n % len(OKABE_ITO)], name, name) for n, name in enumerate(names)]
